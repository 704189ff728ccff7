"""The pytest plugin that has the processes of a run recorded, and judges a run of the whole suite.

A run of some tests prints nothing and fails for nothing here: what it did not exercise, other tests do.
"""

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from support.table_coverage import recorder
from support.table_coverage.recorder import RECORDER, SEPARATOR

_UNCOUNTED = "uncounted"
"""The marker of tests that run broken code or an example: what they exercise says nothing about the tables."""
_SELECTING = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "collectonly")
"""Options of pytest that leave tests out."""
_INPUT = "table_coverage"


def pytest_configure(config: pytest.Config) -> None:
    """Record in each process that runs tests; report where the run began."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is None:
        report = Report(config)
        config.pluginmanager.register(report)
        config.pluginmanager.register(Recording(report.folder, config.rootpath / "tests"))
    elif _INPUT in worker:
        config.pluginmanager.register(Recording(Path(worker[_INPUT]), config.rootpath / "tests"))


def is_whole(config: pytest.Config) -> bool:
    """Whether a run is one of the whole suite: no file, no folder and no selection was given."""
    is_selective = any(getattr(config.option, name, None) for name in _SELECTING)
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not is_selective


def folder_for(file: str, run: Path) -> Path:
    """Make the folder of a test file, by its path in `tests/`. A Python with it on PYTHONPATH records itself there."""
    folder = run / file.replace("/", SEPARATOR)
    folder.mkdir(exist_ok=True)
    shutil.copyfile(recorder.__file__, folder / "sitecustomize.py")
    return folder


class Recording:
    """Records what this process fires, and what those fire that it starts, for the test file that runs.

    Args:
        folder: of the run.
        tests: where the test files are.
    """

    def __init__(self, folder: Path, tests: Path) -> None:
        self._folder = folder
        self._tests = tests
        self._path: Path | None = None
        self._given = os.environ.get("PYTHONPATH")
        recorder.install()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Before the first test of a file, begin its record."""
        path = None if item.get_closest_marker(_UNCOUNTED) else item.path
        if path != self._path:
            self._record(path)
        return (yield)

    def pytest_sessionfinish(self) -> None:
        """Write what is counted."""
        self._record(None)

    def _record(self, path: Path | None) -> None:
        self._path = path
        if path is None or not path.is_relative_to(self._tests):
            RECORDER.record_into(None)
            _set_python_path(self._given)
            return
        folder = folder_for(path.relative_to(self._tests).as_posix(), self._folder)
        RECORDER.record_into(str(folder))
        _set_python_path(os.pathsep.join([str(folder), *([self._given] if self._given else [])]))


class Report:
    """Collects what all processes recorded, and says so at the end of a run of the whole suite."""

    def __init__(self, config: pytest.Config) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="authstate-tables-"))
        self._last_run = config.rootpath / "test-output" / "table-coverage.json"
        self._is_whole = is_whole(config)
        self._lines: list[str] = []
        self._faults: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist where to record."""
        node.workerinput[_INPUT] = str(self.folder)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Judge the run as soon as the last test has ended. One that is interrupted is a run of some tests."""
        is_whole = False
        try:
            result = yield
            is_whole = self._is_whole and not session.shouldstop and not session.shouldfail
        finally:
            RECORDER.flush()
            self._collect(is_whole=is_whole)
        session.testsfailed += bool(self._faults)
        return result

    def _collect(self, *, is_whole: bool) -> None:
        from support.table_coverage.records import LastRun, coverage_of, encode_run, read_run
        from support.table_coverage.report import faults_of, lines_of

        from authstate.adapters.cli.state_tables import TABLES

        uses = read_run(self.folder, TABLES)
        if uses or is_whole:
            self._last_run.parent.mkdir(exist_ok=True)
            self._last_run.write_bytes(encode_run(LastRun(is_whole, coverage_of(uses, TABLES))))
        if is_whole:
            self._lines, self._faults = lines_of(uses, TABLES), faults_of(uses, TABLES)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the report."""
        if self._lines:
            terminalreporter.section("coverage of the state tables")
            terminalreporter.write("\n".join([*self._lines, ""]))
        for fault in self._faults:
            terminalreporter.write_line(f"FAIL {fault}", red=True, bold=True)

    def pytest_unconfigure(self) -> None:
        """Remove what was recorded. A process that is still running then records nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _set_python_path(value: str | None) -> None:
    if value is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = value
