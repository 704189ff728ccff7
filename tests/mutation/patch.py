"""Puts a mutant into a process: into functions that are loaded, or into the import of its module."""

import gc
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType

from mutation.operators import Mutant


def module_of(path: Path, repo: Path) -> str:
    """The name under which a file is imported."""
    parts = path.relative_to(repo).with_suffix("").parts
    if parts[:2] == ("adapters", "package"):  # the folder of the package itself
        parts = parts[2:]
    return ".".join(("authstate", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def install(mutant: Mutant, repo: Path) -> None:
    """Have the import of the module find the mutant."""
    original = SourceFileLoader.get_code
    module = module_of(mutant.path, repo)

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        if fullname == module:
            return compile(mutant.source, self.path, "exec", dont_inherit=True)
        return original(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[assignment]


def exchange(mutant: Mutant, repo: Path) -> None:
    """Give every function of the module that is loaded the code of the mutant; or install it, if none is loaded.

    Raises ValueError when a function takes other names from around it than the original did.
    """
    module = sys.modules.get(module_of(mutant.path, repo))
    if module is None:
        install(mutant, repo)
        return
    assert module.__file__ is not None
    before = compile(mutant.path.read_bytes(), module.__file__, "exec", dont_inherit=True)
    after = compile(mutant.source, module.__file__, "exec", dont_inherit=True)
    exchanged = dict(_pairs(before, after))
    for found in gc.get_objects():
        if type(found) is FunctionType and found.__code__.co_filename == module.__file__:
            found.__code__ = exchanged.get(found.__code__, found.__code__)


def fits(mutant: Mutant) -> bool:
    """Whether `exchange` can give the functions of the original the code of the mutant."""
    before = compile(mutant.path.read_bytes(), str(mutant.path), "exec", dont_inherit=True)
    after = compile(mutant.source, str(mutant.path), "exec", dont_inherit=True)
    return all(
        (one.co_qualname, one.co_freevars) == (other.co_qualname, other.co_freevars)
        and len(list(_inner(one))) == len(list(_inner(other)))
        for one, other in [(before, after), *_pairs(before, after)]
    )


def _pairs(before: CodeType, after: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Each function of a module, or of a function, with that of the other module."""
    for one, other in zip(_inner(before), _inner(after), strict=False):
        yield one, other
        yield from _pairs(one, other)


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))
