"""The modules of a revision as syntax trees, and what the names at their top level stand for. Nothing is executed."""

import ast
from collections.abc import Callable

import msgspec

from authstate.adapters.tables.table_data import CannotReadTables

ReadFile = Callable[[str], str | None]
"""Returns the text of a file, by its path from the top of the repository. None if there is no such file."""


class Assigned(msgspec.Struct, frozen=True):
    """A name that an assignment gives a value. `index` is its place if several names are unpacked from the value."""

    value: ast.expr
    index: int | None = None
    count: int = 1


class Imported(msgspec.Struct, frozen=True):
    """A name that is imported from another module."""

    module: str
    name: str


Definition = Assigned | Imported | ast.ClassDef


class StaticModule:
    """One module: what each name at its top level stands for.

    Args:
        path: of its file, from the top of the repository.
        text: of its file.

    Raises:
        CannotReadTables: the text is not Python as this interpreter knows it.
    """

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.definitions: dict[str, Definition] = {}
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            raise CannotReadTables(f"{path}{line} cannot be parsed: {_reason(error)}") from None
        for statement in tree.body:
            self._define(statement)

    def _define(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.ClassDef):
            self.definitions[statement.name] = statement
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                imported = Imported(statement.module or "", alias.name)
                self.definitions[alias.asname or alias.name] = imported
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                self._assign(target, statement.value)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            self._assign(statement.target, statement.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.definitions[target.id] = Assigned(value)
        elif isinstance(target, ast.Tuple):
            for index, part in enumerate(target.elts):
                if isinstance(part, ast.Name):
                    self.definitions[part.id] = Assigned(value, index, len(target.elts))

    def calls_of(self, kind: str) -> dict[str, ast.Call]:
        """Return each name that is assigned a call of `kind`, which is imported from a module of the name `kind`."""
        found: dict[str, ast.Call] = {}
        for name, definition in self.definitions.items():
            if isinstance(definition, Assigned) and isinstance(definition.value, ast.Call):
                called = definition.value.func
                if isinstance(called, ast.Name) and is_our(self.definitions.get(called.id), kind):
                    found[name] = definition.value
        return found


class StaticModules:
    """The modules of one revision, each parsed when it is asked for first.

    Args:
        read: reads a file of that revision.
    """

    def __init__(self, read: ReadFile) -> None:
        self._read = read
        self._modules: dict[str, StaticModule | None] = {}

    def at(self, path: str) -> StaticModule | None:
        """Return the module of a file. None if there is no such file. Raises CannotReadTables."""
        if path not in self._modules:
            text = self._read(path)
            self._modules[path] = None if text is None else StaticModule(path, text)
        return self._modules[path]

    def named(self, name: str) -> StaticModule | None:
        """Return a module by its dotted name. The package `authstate` is the top of the repository."""
        parts = name.split(".")
        inner = parts[1:] if parts[0] == "authstate" else parts
        for place in ("/".join(inner), "/".join((*inner, "__init__"))):
            if place and (module := self.at(f"{place}.py")):
                return module
        return None


def is_our(definition: Definition | None, kind: str) -> bool:
    """Whether a name stands for `Table`, `Row` or `Words` of authstate. Every release has modules of these names."""
    if not isinstance(definition, Imported) or definition.name != kind:
        return False
    module = definition.module.split(".")
    return module[0] == "authstate" and module[-1] == ("words" if kind == "Words" else "table")


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
