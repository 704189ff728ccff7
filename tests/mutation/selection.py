"""Which tests reach which line, and how long each takes: measured in one run of the unmutated code."""

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from coverage import CoverageData


class Reach(NamedTuple):
    """Who runs the lines of a file."""

    tests: Mapping[int, Sequence[str]]
    """For each line, the tests that reach it, the likeliest to notice a change first."""
    anywhere: Sequence[str]
    """The tests that reach any line."""

    def of(self, lines: Iterable[int]) -> list[str]:
        """The tests that reach any of these lines."""
        return list(dict.fromkeys(test for line in lines for test in self.tests.get(line, ())))


_MAX_SECONDS = 30.0
_MAX_TESTS = 500
_SLOW = 2.0
_UNKNOWN = 0.1  # seconds for a test that has no figure
_RUN = (
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:support.table_coverage.plugin",
    "--cov-context=test",
    "--cov-report=",
    "--cov-fail-under=0",
    "-o",
    "addopts=--import-mode=importlib",
)


class Selection:
    """What one run of the tests told.

    Args:
        tests: the folders and files to run.
        repo: the root of the repository.
        scratch: a folder for what the run writes.
    """

    def __init__(self, tests: Sequence[str], repo: Path, scratch: Path) -> None:
        self._tests = tests
        self._repo = repo
        self._data = scratch / "coverage"
        self._times = scratch / "times.xml"

    def measure(self, packages: Sequence[str]) -> None:
        """Run the tests once with coverage, unless the scratch folder has the figures of an earlier run.

        Raises RuntimeError when a test fails: then no mutant says anything.
        """
        if self._data.exists() and self._times.exists():
            return
        command = [sys.executable, "-m", "pytest", *_RUN, *(f"--cov={package}" for package in packages)]
        command += [f"--junitxml={self._times}", *self._tests]
        environment = {**_environment(), "COVERAGE_FILE": str(self._data)}
        done = subprocess.run(command, cwd=self._repo, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the tests fail without any mutant:\n{done.stdout[-4000:]}")

    def reach(self, path: Path) -> Reach:
        """The tests that reach each line of a file."""
        data = CoverageData(str(self._data))
        data.read()
        measured = [name for name in data.measured_files() if Path(name).resolve() == path.resolve()]
        found: dict[int, set[str]] = defaultdict(set)
        for name in measured:
            for line, contexts in data.contexts_by_lineno(name).items():
                found[line] |= {context.rpartition("|")[0] for context in contexts if "|" in context}
        by_line = {line: _in_turn(tests, path, self._seconds) for line, tests in found.items()}
        return Reach(by_line, _in_turn(set().union(*found.values()), path, self._seconds))

    def affordable(self, tests: Sequence[str]) -> Sequence[str]:
        """The first of these tests: as many as are run for one mutant, and none of the slow ones."""
        quick = [test for test in tests if self._seconds.get(test, _UNKNOWN) <= _SLOW]
        ends = accumulate(self._seconds.get(test, _UNKNOWN) for test in quick)
        return [test for test, end in zip(quick, ends, strict=True) if end <= _MAX_SECONDS][:_MAX_TESTS]

    @cached_property
    def _seconds(self) -> dict[str, float]:
        seconds = {}
        for case in ElementTree.parse(self._times).iter("testcase"):
            module = case.get("classname", "").partition(".Test")[0]
            seconds[f"{module.replace('.', '/')}.py::{case.get('name')}"] = float(case.get("time", "1"))
        return seconds


def _in_turn(tests: set[str], path: Path, seconds: Mapping[str, float]) -> list[str]:
    """First the tests that are named for the module, then one of each other file in turn; the quick ones first."""
    files: dict[str, list[str]] = defaultdict(list)
    for test in sorted(tests, key=lambda test: (seconds.get(test, _UNKNOWN), test)):
        files["" if _is_near(test, path) else test.partition("::")[0]].append(test)
    near = files.pop("", [])
    return near + [test for turn in zip_longest(*files.values()) for test in turn if test is not None]


def _is_near(test: str, path: Path) -> bool:
    """Whether a test is named for the module or its folder: it is the likeliest to notice."""
    name = Path(test.partition("::")[0]).stem.removeprefix("test_")
    return path.stem in name or name in path.stem or path.parent.name.removesuffix("s") in name


def _environment() -> dict[str, str]:
    return {**os.environ, "CI": "true"}  # Hypothesis draws the same examples each time
