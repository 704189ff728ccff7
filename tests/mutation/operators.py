"""The mutants of a module: every place where one operator of a small, fixed set applies.

A mutant is named by what it changes and not by its line, so that its name stays the same while the code around it
moves: `engine/flows/refresh.py::urgency_of::compare::left <= settings.blocking -> left < settings.blocking`.
"""

import ast
import copy
import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

Change = Callable[[ast.AST], ast.AST | list[ast.stmt] | None]

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
}


class Mutant(NamedTuple):
    """One changed module."""

    name: str
    path: Path
    line: int
    """Where the change is, in the original."""
    last_line: int
    source: str
    is_in_function: bool
    """Whether only a call runs the change, and not the import of the module."""


class _Site(NamedTuple):
    operator: str
    path: tuple[tuple[str, int | None], ...]
    """How to walk from the module to the node: field names, with an index where the field is a list."""
    change: Change
    scope: str


def mutants_of(path: Path, root: Path) -> Iterator[Mutant]:
    """Every mutant of a file, in the order of the text. `root` is what names are relative to."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    whole = pickle.dumps(tree)  # copied many times: far quicker than with `copy.deepcopy`
    seen: Counter[str] = Counter()
    for site in _sites(tree):
        mutated = pickle.loads(whole)
        parent, (field, index) = _walk(mutated, site.path[:-1]), site.path[-1]
        node = _child(parent, field, index)
        before = ast.unparse(node)
        after = site.change(node)
        line, last_line = node.lineno, node.end_lineno or node.lineno  # type: ignore[attr-defined]
        _replace(parent, field, index, after)
        ast.fix_missing_locations(mutated)
        shown = " ".join(_shown(after).split())
        name = (
            f"{path.relative_to(root).as_posix()}::{site.scope}::{site.operator}::{_short(before)} -> {_short(shown)}"
        )
        seen[name] += 1
        if seen[name] > 1:
            name += f" #{seen[name]}"
        yield Mutant(name, path, line, last_line, ast.unparse(mutated), _is_in_function(tree, site.path))


def _sites(tree: ast.Module) -> Iterator[_Site]:
    yield from _within(tree, (), "module")


def _within(node: ast.AST, path: tuple[tuple[str, int | None], ...], scope: str) -> Iterator[_Site]:
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params", "bases", "keywords_of_class"):
            continue
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, ast.AST) or _is_silent(child):
                continue
            place = (*path, (field, index if isinstance(value, list) else None))
            inner = scope
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{scope}.{child.name}".removeprefix("module.")
            yield from (_Site(operator, place, change, inner) for operator, change in _operators(child, node, field))
            yield from _within(child, place, inner)


def _is_silent(node: ast.AST) -> bool:
    """What has no behaviour: imports for types, Protocols, docstrings, definitions of type aliases and assertions."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.ClassDef):
        return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
    return isinstance(node, ast.Assert | ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _operators(node: ast.AST, parent: ast.AST, field: str) -> Iterator[tuple[str, Change]]:
    """The operators that apply to a node, with what each makes of it."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in _SWAPS:
            yield "compare", _swap_compare
        case ast.BoolOp():
            yield "and_or", _swap_operator
        case ast.BinOp(op=operator, left=left, right=right) if type(operator) in _SWAPS:
            if not any(isinstance(side, ast.Constant | ast.JoinedStr) and _is_text(side) for side in (left, right)):
                yield "arithmetic", _swap_operator
        case ast.UnaryOp(op=ast.Not()):
            yield "not", lambda found: found.operand  # type: ignore[attr-defined]
        case ast.Constant(value=bool()):
            yield "boolean", lambda found: ast.Constant(not found.value)  # type: ignore[attr-defined]
        case ast.Constant(value=int() | float()) if not isinstance(parent, ast.Subscript | ast.Slice):
            yield "number", lambda found: ast.Constant(found.value + 1)  # type: ignore[attr-defined]
        case ast.Name() | ast.Call() | ast.Attribute() | ast.Await() if field == "test":
            yield "condition", lambda found: ast.UnaryOp(ast.Not(), found)  # type: ignore[arg-type]
        case ast.Expr() | ast.AugAssign() | ast.Delete() | ast.Raise():
            yield "statement", lambda _: ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "statement", lambda _: ast.Pass()
        case ast.Return(value=value) if value is not None and not (
            isinstance(value, ast.Constant) and value.value is None
        ):
            yield "return", lambda _: ast.Return(ast.Constant(None))
        case ast.Break() | ast.Continue():
            yield "loop", lambda _: ast.Pass()
        case ast.With(items=items) | ast.AsyncWith(items=items) if all(item.optional_vars is None for item in items):
            yield "context", lambda found: found.body  # type: ignore[attr-defined]
        case ast.ExceptHandler(body=body) if not (len(body) == 1 and isinstance(body[0], ast.Raise)):
            yield "handler", _reraise
        case ast.IfExp():
            yield "condition", lambda found: ast.IfExp(found.test, found.orelse, found.body)  # type: ignore[attr-defined]


def _is_text(node: ast.Constant | ast.JoinedStr) -> bool:
    return isinstance(node, ast.JoinedStr) or isinstance(node.value, str | bytes)


def _swap_compare(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Compare)
    return ast.Compare(node.left, [_SWAPS[type(node.ops[0])]()], node.comparators)  # type: ignore[list-item]


def _swap_operator(node: ast.AST) -> ast.AST:
    changed = copy.copy(node)
    changed.op = _SWAPS[type(node.op)]()  # type: ignore[attr-defined]
    return changed


def _reraise(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.ExceptHandler)
    return ast.ExceptHandler(node.type, node.name, [ast.Raise()])


def _walk(node: ast.AST, path: tuple[tuple[str, int | None], ...]) -> ast.AST:
    for field, index in path:
        node = _child(node, field, index)
    return node


def _child(node: ast.AST, field: str, index: int | None) -> ast.AST:
    value = getattr(node, field)
    child: ast.AST = value if index is None else value[index]
    return child


def lines_of_use(source: str, line: int) -> set[int]:
    """The lines of a module that use what the definition on a line defines, which itself only an import runs: those of
    the function whose default it is, or those that name what is assigned there.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line < node.body[0].lineno:
            return set(range(node.body[0].lineno, (node.end_lineno or line) + 1))
    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.lineno <= line <= (node.end_lineno or line)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    used = re.compile(rf"\b(?:{'|'.join(names)})\b") if names else None
    return {number for number, text in enumerate(source.splitlines(), 1) if used is not None and used.search(text)}


def _is_in_function(tree: ast.Module, path: tuple[tuple[str, int | None], ...]) -> bool:
    node: ast.AST = tree
    for field, index in path:
        if field == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return True
        node = _child(node, field, index)
    return False


def _replace(parent: ast.AST, field: str, index: int | None, after: ast.AST | list[ast.stmt] | None) -> None:
    if index is None:
        setattr(parent, field, after)
    elif isinstance(after, list):
        getattr(parent, field)[index : index + 1] = after
    else:
        getattr(parent, field)[index] = after


def _shown(after: ast.AST | list[ast.stmt] | None) -> str:
    if isinstance(after, list):
        return "its body alone"
    return ast.unparse(ast.fix_missing_locations(after)) if after is not None else "nothing"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 90 else flat[:87] + "..."
