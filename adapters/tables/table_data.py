"""A state table as plain data, whether it is the running one or was read from the source of another revision."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from authstate.engine.machines.table import Row, Table
from authstate.engine.machines.words import Words


class CannotReadTables(Exception):
    """The tables of a revision cannot be read. The message says which file and line, and why."""


class TableData(msgspec.Struct, frozen=True):
    """One table. All of its names are plain strings, so that equal tables of two revisions are equal."""

    table: Table
    words: Words | None = None
    """What its names mean. None in revisions that have no words yet."""
    path: str = ""
    """The file that defines it, from the top of the repository. Empty if that is not known."""


def table_data(table: Table, words: Words | None = None, path: str = "") -> TableData:
    """Return a table, and the words for it, as plain data.

    Raises:
        CannotReadTables: something in them has another type than it should.
    """
    where = f"the table {table.name!r}" + (f" in {path}" if path else "")
    return TableData(_plain_struct(table, Table, where), _plain_words(words, where), path)


def running_tables(tables: Sequence[Table], words: Mapping[str, Words]) -> dict[str, TableData]:
    """Return the tables of the running code by their names."""
    return {str(table.name): table_data(table, words.get(table.name)) for table in tables}


def rows_in(table: Table, state: str, trigger: str) -> tuple[Row, ...]:
    """Return the rows that a trigger finds in a state. None: the trigger is refused.

    The first row whose guard agrees decides, so nothing follows a row without a guard, and a guard decides once.
    """
    found: dict[str, Row] = {}
    for row in table.rows:
        if row.trigger == trigger and state in row.sources and "" not in found:
            found.setdefault(row.guard, row)
    return tuple(found.values())


def _plain_words(words: Words | None, where: str) -> Words | None:
    return None if words is None else _plain_struct(words, Words, where)


def _plain_struct(value: Any, kind: Any, where: str) -> Any:
    """Return a struct whose strings are plain, and whose values have the types that it declares."""
    fields = {name: _plain(getattr(value, name)) for name in kind.__struct_fields__}
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise CannotReadTables(f"{where} cannot be read: {error}") from None


def _plain(value: Any) -> Any:
    """The same value with each member of an enum replaced by its string."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_plain(item) for item in value)
    return value
