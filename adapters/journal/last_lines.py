"""Writes the last lines of journals when the program ends, and lets a forked child begin with none.

The threads of the stores end with the program, whatever they are at, so a thread of its own writes what waits. It
starts with the first line: Python 3.12 starts none while it ends. The program waits for it for two seconds at most,
because a disk may hang.
"""

import atexit
import os
import threading
from contextlib import suppress
from typing import Final
from weakref import WeakSet

from authstate.adapters.journal.journal_file import JournalFile

PATIENCE: Final = 2.0  # seconds

_files: WeakSet[JournalFile] = WeakSet()


class _LastWriter:
    """A thread that waits for the end of the program."""

    def __init__(self) -> None:
        self._is_asked = threading.Event()
        self._is_done = threading.Event()
        threading.Thread(target=self._work, daemon=True, name="authstate-journal").start()

    def write(self, patience: float) -> None:
        """Return when all lines are written, or after so many seconds."""
        self._is_asked.set()
        self._is_done.wait(patience)

    def _work(self) -> None:
        self._is_asked.wait()
        _drain_all()
        self._is_done.set()


class _OfProcess:
    """What belongs to one process."""

    writer: _LastWriter | None = None


def write_at_exit(file: JournalFile) -> None:
    """Write what waits in a file when the program ends. Raises nothing."""
    _files.add(file)
    if _OfProcess.writer is None:
        with suppress(RuntimeError):  # no more threads: then the hook itself writes
            _OfProcess.writer = _LastWriter()


def _drain_all() -> None:
    for file in tuple(_files):
        file.drain(PATIENCE / 2)


@atexit.register
def _write_what_waits() -> None:
    with suppress(Exception, KeyboardInterrupt):
        if any(file.is_busy for file in tuple(_files)):
            if _OfProcess.writer is not None:
                _OfProcess.writer.write(PATIENCE)
            else:
                _drain_all()


def _after_fork() -> None:
    """The lines that wait are the parent's, and a thread that the child does not have may hold a lock."""
    _OfProcess.writer = None
    for file in tuple(_files):
        file.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
