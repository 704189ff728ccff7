"""Runs tests against one mutant, in a process forked from one that has pytest and the libraries loaded already.

Only this process sees the mutant: a test that starts the program anew runs the original. So what such tests alone would
notice counts as not noticed.
"""

import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from importlib.machinery import SourceFileLoader
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from mutation.operators import Mutant

_LOADED = (
    "pytest",
    "hypothesis.stateful",
    "httpx",
    "transitions",
    "tenacity",
    "structlog",
    "msgspec",
    "h11",
    "jsonschema",
)
_OPTIONS = ("-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib")
_TIME = 240.0  # seconds for one mutant: one that hangs is noticed by that


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    HUNG = "hung"


class Outcome(NamedTuple):
    """One mutant and its fate."""

    mutant: Mutant
    fate: Fate


class _Running(NamedTuple):
    mutant: Mutant
    process: BaseProcess
    began: float


def run(trials: Iterable[tuple[Mutant, list[str]]], repo: Path, at_once: int) -> Iterator[Outcome]:
    """Run each mutant against its tests, so many at once; outcomes come as they are known."""
    for name in _LOADED:
        importlib.import_module(name)
    context = multiprocessing.get_context("fork")
    running: list[_Running] = []
    for mutant, tests in trials:
        while len(running) >= at_once:
            yield from _reap(running)
        process = context.Process(target=_child, args=(mutant, tests, repo))
        process.start()
        running.append(_Running(mutant, process, time.monotonic()))
    while running:
        yield from _reap(running)


def _reap(running: list[_Running]) -> Iterator[Outcome]:
    wait([one.process.sentinel for one in running], timeout=1.0)
    for one in list(running):
        if one.process.exitcode is not None:
            running.remove(one)
            yield Outcome(one.mutant, Fate.SURVIVED if one.process.exitcode == 0 else Fate.KILLED)
        elif time.monotonic() - one.began > _TIME:
            one.process.kill()
            one.process.join()
            running.remove(one)
            yield Outcome(one.mutant, Fate.HUNG)


def _child(mutant: Mutant, tests: list[str], repo: Path) -> None:
    os.setsid()
    os.chdir(repo)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    os.environ["CI"] = "true"
    _install(mutant, module_of(mutant.path, repo))
    import pytest

    sys.path[:] = [place for place in sys.path if Path(place) != repo / "tests"]
    code = pytest.main([*_OPTIONS, *tests])
    os._exit(0 if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else 1)


def module_of(path: Path, repo: Path) -> str:
    """The name under which a file is imported."""
    parts = path.relative_to(repo).with_suffix("").parts
    return ".".join(("authstate", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _install(mutant: Mutant, module: str) -> None:
    """Have the import of the module find the mutant."""
    original = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        if fullname == module:
            return compile(mutant.source, self.path, "exec", dont_inherit=True)
        return original(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[assignment]
