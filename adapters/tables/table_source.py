"""The state tables of a revision, found in its source by `... = Table(...)`, wherever they are and were."""

from collections.abc import Iterable

from authstate.adapters.tables.static_modules import ReadFile, StaticModule, StaticModules
from authstate.adapters.tables.static_values import StaticValues
from authstate.adapters.tables.table_data import CannotReadTables, TableData, table_data
from authstate.engine.machines.table import Table
from authstate.engine.machines.words import Words


def tables_of_source(paths: Iterable[str], read: ReadFile) -> dict[str, TableData]:
    """Return the tables that files define, by the names of the tables, in the order of the files.

    Args:
        paths: the files that may define a table. Others are read only if these import from them.
        read: reads a file of the same revision.

    Raises:
        CannotReadTables: a table cannot be read without executing code, or two tables have the same name.
    """
    modules = StaticModules(read)
    values = StaticValues(modules)
    found: dict[str, TableData] = {}
    for path in paths:
        module = modules.at(path)
        for name in module.calls_of("Table") if module else ():
            assert module is not None
            one = _table_of(module, name, values)
            if (other := found.get(one.table.name)) is not None:
                raise CannotReadTables(f"{other.path} and {path} both define a table '{one.table.name}'")
            found[one.table.name] = one
    return found


def _table_of(module: StaticModule, name: str, values: StaticValues) -> TableData:
    """A table, with the words beside it: `X_WORDS` for `X_TABLE`, if the module has them."""
    beside = f"{name.removesuffix('_TABLE')}_WORDS"
    table: Table = values.of(module, name)
    words: Words | None = values.of(module, beside) if beside in module.calls_of("Words") else None
    return table_data(table, words, module.path)
