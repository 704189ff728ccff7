"""Counts which cells of the state tables this process fires, in files that survive SIGKILL.

The plugin installs it in the process of the tests. It also copies this file, as `sitecustomize.py`, into a folder for
each test file, and puts that folder on PYTHONPATH: so each Python that a test starts records itself there. Nothing else
has to reach the child, and the code of authstate knows nothing of it. This file imports nothing that takes time.

Three things consult a table and count: `TableMachine.fire`; `AuthMachine.check` where it refuses, because a login is
refused there, before anything is stored, and never reaches `fire`; and `BrowserProgress.fire` where there is no row.
Whoever only reads a table, as the diagrams and `authstate verify` do, exercises nothing.

A line has seven fields, separated by tabs: a digest of the table, its name, the state, the trigger, the outcome, who
fired (`owner` for code of authstate, `hand` for a test that moved a machine itself), and how often since the line
before. A line is written at once for the first firing, and then each time that the number of firings has doubled.
"""

from __future__ import annotations

import atexit
import os
import sys

TYPE_CHECKING = False  # importing `typing` would double the time that an empty Python takes to start
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_open, _write, _close, _getpid = os.open, os.write, os.close, os.getpid  # as they are before a test replaces them
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
ROW, REFUSED, MISSING = "row", "refused by guard", "missing"
OWNER, HAND = "owner", "hand"
SEPARATOR = "+"
"""Stands for the slashes of a path where it is the name of a folder."""


class _Tally:
    """How often one outcome of one cell was seen."""

    __slots__ = ("count", "line", "table", "written")

    def __init__(self, table: Any, line: str) -> None:
        self.table = table  # keeps its id from being used again
        self.line = line
        self.count = 0
        self.written = 0


class Recorder:
    """Counts for one folder at a time. Without a folder it counts nothing."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._pid = _getpid()
        self._is_child = False
        self._tallies: dict[tuple[Any, ...], _Tally] = {}

    def record_into(self, folder: str | None, *, is_child: bool = False) -> None:
        """Write what is counted so far, and count for another folder from here on.

        Args:
            is_child: this is a process that a test started, and not the one that runs the tests.
        """
        self.flush()
        self._tallies.clear()
        self._folder, self._is_child = folder, is_child

    def saw(self, table: Any, state: str, trigger: str, *, refused: bool, by: str) -> None:
        """Count one firing."""
        if self._folder is None:
            return
        key = (id(table), state, trigger, refused, by)
        tally = self._tallies.get(key)
        if tally is None:
            outcome = MISSING if table.target(state, trigger) is None else REFUSED if refused else ROW
            line = "\t".join((digest_of(table), table.name, state, trigger, outcome, by))
            tally = self._tallies[key] = _Tally(table, line)
        tally.count += 1
        if tally.count >= 2 * tally.written:
            self._append([tally])

    def flush(self) -> None:
        """Write what is counted and not written yet."""
        self._append([tally for tally in self._tallies.values() if tally.count > tally.written])

    def forget(self) -> None:
        """In a forked child: what its parent counted is the parent's to write."""
        self._tallies.clear()

    def _append(self, tallies: list[_Tally]) -> None:
        if not tallies or self._folder is None:
            return
        pid = _getpid()
        kind = "child" if self._is_child or pid != self._pid else "tests"
        lines = "".join(f"{tally.line}\t{tally.count - tally.written}\n" for tally in tallies)
        try:
            file = _open(os.path.join(self._folder, f"{pid}.{kind}"), _APPEND, 0o666)
        except OSError:
            return  # the run is over, or this process may not write there: the next firing tries again
        try:
            _write(file, lines.encode(errors="replace"))  # a table of a test may have any names
            for tally in tallies:
                tally.written = tally.count
        except OSError:
            pass
        finally:
            _close(file)


def digest_of(table: Any) -> str:
    """A digest of all that a table says. A table that a test made or changed has another one than the real table."""
    from zlib import crc32

    return f"{crc32(repr(table).encode()):08x}"


RECORDER = Recorder()


def install() -> None:
    """Record in this process: wrap the methods that consult a table, now or when their module is imported."""
    for name, wrap in _WRAPPERS.items():
        if name in sys.modules:
            wrap(sys.modules[name])
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
        atexit.register(RECORDER.flush)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=RECORDER.forget)


def _wrap_table_machine(module: ModuleType) -> None:
    kind, refusals = module.TableMachine, module.AuthError
    original = kind.fire
    if hasattr(original, "is_recorded"):
        return

    def fire(self: Any, model: Any, trigger: str, payload: object = None) -> None:
        state = model.state
        by = OWNER if sys._getframe(1).f_globals.get("__name__", "").startswith("authstate.") else HAND
        try:
            original(self, model, trigger, payload)
        except refusals:
            RECORDER.saw(self.table, state, trigger, refused=True, by=by)
            raise
        RECORDER.saw(self.table, state, trigger, refused=False, by=by)

    kind.fire = _in_place_of(original, fire)


def _wrap_auth_machine(module: ModuleType) -> None:
    kind, refusals = module.AuthMachine, module.AuthError
    original = kind.check
    if hasattr(original, "is_recorded"):
        return

    def check(self: Any, trigger: str, payload: Any) -> None:
        try:
            original(self, trigger, payload)
        except refusals:
            RECORDER.saw(self._machine.table, self.state, trigger, refused=True, by=OWNER)
            raise

    kind.check = _in_place_of(original, check)


def _wrap_browser_progress(module: ModuleType) -> None:
    kind, table = module.BrowserProgress, module.BROWSER_LOGIN_TABLE
    original = kind.fire
    if hasattr(original, "is_recorded"):
        return

    def fire(self: Any, trigger: str) -> bool:
        state = self.state
        is_fired: bool = original(self, trigger)
        if not is_fired:
            RECORDER.saw(table, state, trigger, refused=True, by=OWNER)
        return is_fired

    kind.fire = _in_place_of(original, fire)


def _in_place_of(original: Any, wrapper: Any) -> Any:
    from functools import update_wrapper

    wrapper.is_recorded = True
    return update_wrapper(wrapper, original)


_WRAPPERS = {
    "authstate.engine.machines.table": _wrap_table_machine,
    "authstate.engine.machines.auth_state": _wrap_auth_machine,
    "authstate.adapters.oauth.browser_progress": _wrap_browser_progress,
}


class _Finder:
    """Finds the modules of `_WRAPPERS` as the other finders do, with a loader that wraps their methods afterwards."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec, or None for every other module."""
        if name not in _WRAPPERS:
            return None
        for finder in sys.meta_path[sys.meta_path.index(_Finder) + 1 :]:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """The loader of a module, which then wraps its methods and takes itself out of the way."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: Any) -> Any:
        """As the loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """As the loader does."""
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _WRAPPERS[module.__name__](module)


if __name__ == "sitecustomize":
    RECORDER.record_into(os.path.dirname(os.path.abspath(__file__)), is_child=True)
    install()
