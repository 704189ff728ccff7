"""The values of expressions that build state tables, computed from their syntax trees. Nothing is executed.

The subset of Python is what the tables of all releases are written in: literals, names, enums, tuples, dictionaries,
comprehensions over known values, and calls of `Table`, `Row`, `Words`, `tuple`, `dict.fromkeys` and the like. Whatever
is not in the subset is an error that names its line. The work is bounded, because a revision may be anybody's.
"""

import ast
from collections.abc import Iterator, Mapping, ValuesView
from contextlib import contextmanager
from typing import Any

import msgspec

from authstate.adapters.tables.static_modules import Definition, Imported, StaticModule, StaticModules, is_our
from authstate.adapters.tables.table_data import CannotReadTables
from authstate.engine.machines.table import Row, Table
from authstate.engine.machines.words import Words

_MAX_STEPS = 50_000  # of one revision: the tables of this one take about 1,000
_MAX_DEPTH = 100  # of names that stand for other names, and of nested expressions
_KINDS: Mapping[str, Any] = {"Table": Table, "Row": Row, "Words": Words}
_BUILTINS: Mapping[str, Any] = {**dict.fromkeys(("tuple", "list", "set", "frozenset"), tuple), "dict": dict}
_Locals = Mapping[str, Any]


class EnumClass(msgspec.Struct, frozen=True):
    """A class of names: each member and its value, in order."""

    members: Mapping[str, Any]


class StaticValues:
    """Computes what names of a revision stand for.

    Args:
        modules: the modules of that revision.
    """

    def __init__(self, modules: StaticModules) -> None:
        self._modules = modules
        self._known: dict[tuple[str, str], Any] = {}
        self._steps = 0
        self._depth = 0

    def of(self, module: StaticModule, name: str) -> Any:
        """Return the value of a name at the top level of a module.

        Raises:
            CannotReadTables: its expression is not in the subset, or takes too much work.
        """
        key = (module.path, name)
        if key not in self._known:
            definition = module.definitions.get(name)
            if definition is None:
                raise CannotReadTables(f"{module.path} does not define {name}")
            with self._deeper(f"{module.path}: {name}"):
                self._known[key] = self._definition(module, definition)
        return self._known[key]

    def _definition(self, module: StaticModule, definition: Definition) -> Any:
        if isinstance(definition, Imported):
            return self._imported(module, definition)
        if isinstance(definition, ast.ClassDef):
            return self._enum(module, definition)
        value = self._value(module, definition.value, {})
        if definition.index is None:
            return value
        parts = self._iterated(module, definition.value, value)
        if len(parts) != definition.count:
            raise _error(module, definition.value, f"{len(parts)} values for {definition.count} names")
        return parts[definition.index]

    def _imported(self, module: StaticModule, imported: Imported) -> Any:
        for kind in _KINDS:
            if is_our(imported, kind):
                return _KINDS[kind]
        origin = self._modules.named(imported.module)
        if origin is None:
            raise CannotReadTables(f"{module.path} imports {imported.name} from {imported.module}, which is not there")
        return self.of(origin, imported.name)

    def _enum(self, module: StaticModule, node: ast.ClassDef) -> EnumClass:
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        if not any(base.endswith("Enum") for base in bases):
            raise _error(module, node, f"the class {node.name} is not an enum")
        members: dict[str, Any] = {}
        for statement in node.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                members[statement.targets[0].id] = self._value(module, statement.value, {})
        return EnumClass(members)

    def _value(self, module: StaticModule, node: ast.expr, local: _Locals) -> Any:
        """The value of an expression, where the names in `local` hide those of the module."""
        self._step(module, node)
        compute = getattr(self, f"_{type(node).__name__.lower()}", None)
        if compute is None:
            raise _error(module, node, f"'{_shown(node)}' cannot be read without executing it")
        with self._deeper(f"{module.path}:{node.lineno}"):
            return compute(module, node, local)

    @contextmanager
    def _deeper(self, where: str) -> Iterator[None]:
        self._depth += 1
        try:
            if self._depth > _MAX_DEPTH:
                raise CannotReadTables(f"{where}: the expression is nested too deeply, or stands for itself")
            yield
        finally:
            self._depth -= 1

    def _step(self, module: StaticModule, node: ast.expr, count: int = 1) -> None:
        self._steps += count
        if self._steps > _MAX_STEPS:
            raise _error(module, node, "the tables take too much work to read")

    def _constant(self, module: StaticModule, node: ast.Constant, local: _Locals) -> Any:
        return node.value

    def _name(self, module: StaticModule, node: ast.Name, local: _Locals) -> Any:
        if node.id in local:
            return local[node.id]
        if node.id not in module.definitions and node.id in _BUILTINS:
            return _BUILTINS[node.id]
        return self.of(module, node.id)

    def _attribute(self, module: StaticModule, node: ast.Attribute, local: _Locals) -> Any:
        owner = self._value(module, node.value, local)
        if isinstance(owner, EnumClass) and node.attr in owner.members:
            return owner.members[node.attr]
        if isinstance(owner, Table | Row) and node.attr in owner.__struct_fields__:
            return getattr(owner, node.attr)
        if owner is dict and node.attr == "fromkeys":
            return dict.fromkeys
        raise _error(module, node, f"'{_shown(node)}' cannot be read without executing it")

    def _tuple(self, module: StaticModule, node: ast.Tuple | ast.List | ast.Set, local: _Locals) -> tuple[Any, ...]:
        found: list[Any] = []
        for part in node.elts:
            if isinstance(part, ast.Starred):
                found.extend(self._iterated(module, part, self._value(module, part.value, local)))
            else:
                found.append(self._value(module, part, local))
        return tuple(found)

    _list = _set = _tuple

    def _dict(self, module: StaticModule, node: ast.Dict, local: _Locals) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            value = self._value(module, item, local)
            if key is not None:
                found[self._hashable(module, key, local)] = value
            elif isinstance(value, dict):
                self._step(module, node, len(value))
                found.update(value)
            else:
                raise _error(module, item, "only a dictionary can be unpacked into one")
        return found

    def _binop(self, module: StaticModule, node: ast.BinOp, local: _Locals) -> Any:
        left: Any = self._value(module, node.left, local)
        right: Any = self._value(module, node.right, local)
        is_sum = isinstance(node.op, ast.Add)
        if is_sum and type(left) is type(right) and isinstance(left, str | tuple):
            self._step(module, node, len(left) + len(right))
            return left + right
        if isinstance(node.op, ast.BitOr) and isinstance(left, dict) and isinstance(right, dict):
            self._step(module, node, len(left) + len(right))
            return left | right
        raise _error(module, node, f"'{_shown(node)}' cannot be read without executing it")

    def _generatorexp(self, module: StaticModule, node: ast.GeneratorExp, local: _Locals) -> tuple[Any, ...]:
        return tuple(self._value(module, node.elt, names) for names in self._loops(module, node.generators, local))

    _listcomp = _setcomp = _generatorexp

    def _dictcomp(self, module: StaticModule, node: ast.DictComp, local: _Locals) -> dict[Any, Any]:
        return {
            self._hashable(module, node.key, names): self._value(module, node.value, names)
            for names in self._loops(module, node.generators, local)
        }

    def _loops(self, module: StaticModule, loops: list[ast.comprehension], local: _Locals) -> Iterator[_Locals]:
        """The names of each round of nested loops."""
        if not loops:
            yield local
            return
        loop, *inner = loops
        for item in self._iterated(module, loop.iter, self._value(module, loop.iter, local)):
            names = {**local, **self._bound(module, loop.target, item)}
            if all(self._value(module, condition, names) for condition in loop.ifs):
                yield from self._loops(module, inner, names)

    def _bound(self, module: StaticModule, target: ast.expr, item: Any) -> dict[str, Any]:
        if isinstance(target, ast.Name):
            return {target.id: item}
        if isinstance(target, ast.Tuple) and isinstance(item, tuple) and len(target.elts) == len(item):
            found: dict[str, Any] = {}
            for part, value in zip(target.elts, item, strict=True):
                found |= self._bound(module, part, value)
            return found
        raise _error(module, target, "the loop cannot be read without executing it")

    def _compare(self, module: StaticModule, node: ast.Compare, local: _Locals) -> bool:
        left = self._value(module, node.left, local)
        right = self._value(module, node.comparators[0], local)
        if len(node.ops) == 1:
            match node.ops[0]:
                case ast.Eq() | ast.Is():
                    return bool(left == right)
                case ast.NotEq() | ast.IsNot():
                    return bool(left != right)
                case ast.In():
                    return left in self._iterated(module, node.comparators[0], right)
                case ast.NotIn():
                    return left not in self._iterated(module, node.comparators[0], right)
        raise _error(module, node, f"'{_shown(node)}' cannot be read without executing it")

    def _call(self, module: StaticModule, node: ast.Call, local: _Locals) -> Any:
        function = self._value(module, node.func, local)
        given = self._tuple(module, ast.Tuple(node.args, ast.Load(), lineno=node.lineno), local)
        named = {key.arg: self._value(module, key.value, local) for key in node.keywords if key.arg is not None}
        if len(named) != len(node.keywords):
            raise _error(module, node, "arguments that are unpacked from a dictionary cannot be read")
        if function in _KINDS.values():
            return _made(module, node, function, given, named)
        if function is tuple and len(given) == 1 and not named:
            return self._iterated(module, node, given[0])
        if function == dict.fromkeys and len(given) == 2 and not named:
            return dict.fromkeys(self._iterated(module, node, given[0]), given[1])
        raise _error(module, node, f"'{_shown(node)}' cannot be read without executing it")

    def _iterated(self, module: StaticModule, node: ast.expr, value: Any) -> tuple[Any, ...]:
        """What a loop over a value sees. Each round counts as a step."""
        values = value.members.values() if isinstance(value, EnumClass) else value
        if not isinstance(values, str | tuple | dict | ValuesView):
            raise _error(module, node, f"'{_shown(node)}' cannot be looped over")
        self._step(module, node, len(values))
        return tuple(values)

    def _hashable(self, module: StaticModule, node: ast.expr, local: _Locals) -> Any:
        key = self._value(module, node, local)
        try:
            hash(key)
        except TypeError:
            raise _error(module, node, f"'{_shown(node)}' cannot be a key") from None
        return key


def _made(module: StaticModule, node: ast.Call, kind: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """A table, a row or words. Their types are checked later, when they are made plain."""
    unknown = set(named) - set(kind.__struct_fields__)
    if unknown:
        raise _error(module, node, f"{kind.__name__} has a field that this release does not know: {sorted(unknown)[0]}")
    try:
        return kind(*given, **named)
    except TypeError as error:
        raise _error(module, node, f"this is not a {kind.__name__} as this release knows it: {error}") from None


def _error(module: StaticModule, node: ast.AST, why: str) -> CannotReadTables:
    return CannotReadTables(f"{module.path}:{getattr(node, 'lineno', 0)}: {why}")


def _shown(node: ast.AST) -> str:
    try:
        text = " ".join(ast.unparse(node).split())
    except (ValueError, RecursionError):
        return type(node).__name__
    return text if len(text) < 60 else f"{text[:57]}..."
