"""Runs tests against mutants, each in a process of its own.

There are two ways. The warm one collects all tests once, and forks for each mutant: the child exchanges the code of the
functions that are loaded already. It serves for all that a test calls. The cold one forks before anything of the
project is loaded, and imports the mutant: it serves for everything else (constants, defaults, class bodies, what only
an import runs).

Only the forked process sees the mutant: a test that starts the program anew runs the original. So what such tests alone
would notice counts as not noticed.
"""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mutation.operators import Mutant
from mutation.patch import exchange, install

if TYPE_CHECKING:
    import pytest

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
_OPTIONS = (
    *("-x", "-q", "--no-header", "--tb=no", "--capture=sys", "-p", "no:cacheprovider"),
    *("-p", "no:support.table_coverage.plugin"),
    *("-o", "addopts=--import-mode=importlib", "-o", "timeout=45"),
    "--assert=plain",  # pytest rewrites the assertions of a package with a plugin, and then it would import no mutant
)
_TIME = 150.0  # seconds for one mutant: one that hangs is noticed by that
_FIRST = 25  # tests that a cold trial runs before it collects all the others


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    HUNG = "hung"


class Outcome(NamedTuple):
    """One mutant and its fate."""

    mutant: Mutant
    fate: Fate


class Trial(NamedTuple):
    """One mutant and the tests that may notice it, in the order in which they run."""

    mutant: Mutant
    tests: Sequence[str]
    is_warm: bool
    """Whether a test calls the changed line."""


class Pool:
    """So many forked processes at once; each outcome is reported as soon as it is known."""

    def __init__(self, at_once: int, report: Callable[[Outcome], None]) -> None:
        self._at_once = at_once
        self._report = report
        self._running: dict[int, tuple[Mutant, float]] = {}

    def fork(self, mutant: Mutant) -> bool:
        """Start a process for a mutant, once there is room; tell whether this is the new process."""
        self._reap(self._at_once - 1)
        process = os.fork()
        if process == 0:
            _be_silent()
            return True
        self._running[process] = (mutant, time.monotonic())
        return False

    def finish(self) -> None:
        """Wait for all of them."""
        self._reap(0)

    def _reap(self, most: int) -> None:
        while len(self._running) > most:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process in self._running:
                self._end(process, Fate.SURVIVED if status == 0 else Fate.KILLED)
                continue
            for late, (_, began) in list(self._running.items()):
                if time.monotonic() - began > _TIME:
                    os.kill(late, signal.SIGKILL)
                    os.waitpid(late, 0)
                    self._end(late, Fate.HUNG)
            time.sleep(0.02)

    def _end(self, process: int, fate: Fate) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # what its tests started
        self._report(Outcome(self._running.pop(process)[0], fate))


def run_cold(trials: Iterable[Trial], repo: Path, pool: Pool) -> None:
    """Run trials that import the mutant. Nothing of the project may be loaded yet."""
    for name in _LOADED:
        importlib.import_module(name)
    for trial in trials:
        if pool.fork(trial.mutant):
            install(trial.mutant, repo)
            for tests in (trial.tests[:_FIRST], trial.tests[_FIRST:]):
                if tests and not _is_passed(tests, repo):
                    os._exit(1)
            os._exit(0)
    pool.finish()


def _is_passed(tests: Sequence[str], repo: Path) -> bool:
    """Run tests in a child, so that the next ones are collected afresh."""
    process = os.fork()
    if process == 0:
        os._exit(_pytest(tests, repo))
    return os.waitpid(process, 0)[1] == 0


def run_warm(trials: Iterable[Trial], places: Sequence[str], repo: Path, pool: Pool) -> None:
    """Collect the tests of these places once, and run each trial in a copy of this process."""
    server = _Server(trials, repo, pool)
    code = _pytest(places, repo, server)
    if server.is_copy:
        os._exit(code)
    if server.is_stopped:
        raise KeyboardInterrupt
    if not server.is_done:
        raise RuntimeError("the tests cannot be collected: run pytest to see why")


class _Server:
    """A plugin of pytest that runs the tests in copies of the process, instead of in the process itself."""

    def __init__(self, trials: Iterable[Trial], repo: Path, pool: Pool) -> None:
        self._trials = trials
        self._repo = repo
        self._pool = pool
        self.is_copy = False
        self.is_done = False
        self.is_stopped = False

    def pytest_runtestloop(self, session: "pytest.Session") -> bool | None:
        items = {item.nodeid: item for item in session.items}
        try:
            for trial in self._trials:
                if self._pool.fork(trial.mutant):
                    self.is_copy = True
                    exchange(trial.mutant, self._repo)
                    session.items[:] = [items[test] for test in trial.tests if test in items]
                    return None  # pytest runs them
            self._pool.finish()
        except KeyboardInterrupt:
            self.is_stopped = True
        self.is_done = True
        return True


def _pytest(arguments: Sequence[str], repo: Path, *plugins: object) -> int:
    """Run pytest in this process; 0 when no test failed."""
    import pytest

    os.chdir(repo)
    os.environ["CI"] = "true"  # Hypothesis draws the same examples each time
    sys.path[:] = [place for place in sys.path if Path(place).absolute() != repo / "tests"]
    code = pytest.main([*_OPTIONS, *arguments], plugins=list(plugins))
    return 0 if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else 1


def _be_silent() -> None:
    os.setsid()
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
