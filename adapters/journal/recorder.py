"""Writes down what happens to a login: each event of an engine, and each step of its refreshes, is a line of a journal.

The event loop only notes what happened. A line is made and written in one of the threads of the stores
(stores/off_loop.py), in batches. What waits when the program ends is written then (last_lines.py).
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol
from weakref import WeakSet

from authstate.adapters.journal.journal_file import JournalFile
from authstate.adapters.journal.last_lines import write_at_exit
from authstate.adapters.journal.lines import VERSION, Data, Line, Redaction, describe, encode, is_notable, journal_path
from authstate.adapters.stores.disk import Disk
from authstate.engine.machines.refresh_trace import EngineEnded, TraceStep
from authstate.engine.model.events import Event
from authstate.engine.version import VERSION as RELEASE

_COMMANDS = frozenset(
    ("app-server", "wrap", "run", "broker", "login", "logout", "status", "token", "account", "lease", "demo", "sandbox")
)
_MOST_OF_NAME = 80
_PROGRAMS = ("authstate", "authstate-codex")
_WITH_VALUE = ("-c", "--config", "--account")


class Recordable(Protocol):
    """The part of an `AuthEngine` that is used here."""

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call the listener with every event."""
        ...

    def subscribe_trace(self, listener: Callable[[TraceStep], None]) -> Callable[[], None]:
        """Call the listener with every step of a refresh."""
        ...


class LineMaker:
    """Makes the lines of one engine, in order.

    Args:
        redact: makes the text of messages fit for a journal.
        now: the wall clock, in seconds since the epoch.
        by: the name of the engine in its lines. By default a random one.
        pid: the process. By default this one.
    """

    def __init__(
        self,
        redact: Callable[[object], str],
        now: Callable[[], float] = time.time,
        by: str | None = None,
        pid: int | None = None,
    ) -> None:
        self._redact = redact
        self._now = now
        self._by = by or secrets.token_hex(4)
        self._pid = os.getpid() if pid is None else pid
        self._count = 0

    def opened(self, data: Data) -> Callable[[], Line]:
        """Return what makes the first line."""
        program = str(data.get("program", ""))
        return self._numbered(lambda: ("opened", {**data, "program": self._redact(program)[:_MOST_OF_NAME]}))

    def line_of(self, happened: Event | TraceStep) -> Callable[[], Line]:
        """Return what makes the line of an event or a step. It costs little until it is called, in any thread."""
        return self._numbered(lambda: describe(happened, self._redact))

    def of_child(self) -> "LineMaker":
        """Return what makes the lines of the same engine in a forked child: there it is another engine."""
        return LineMaker(self._redact, self._now)

    def skip(self) -> None:
        """Leave out a number. It tells a reader that something came before which these lines do not say."""
        self._count += 1

    def _numbered(self, described: Callable[[], tuple[str, Data]]) -> Callable[[], Line]:
        self._count += 1
        return partial(self._make, self._count, self._now(), described)

    def _make(self, number: int, at: float, described: Callable[[], tuple[str, Data]]) -> Line:
        what, data = described()
        return Line(VERSION, round(at, 6), self._by, number, self._pid, what, data)


class Recorder:
    """Takes what an engine tells, and has it written.

    Args:
        file: where the lines go.
        lines: makes them.
    """

    def __init__(self, file: JournalFile, lines: LineMaker) -> None:
        self._file = file
        self._lines = lines
        self._disk = Disk()
        self._begin()
        _recorders.add(self)

    def _begin(self) -> None:
        self._held: list[Callable[[], Line]] = [self._lines.opened(describe_program(sys.argv))]
        self._is_open = False  # something notable happened
        self._is_scheduled = False

    def begin_anew(self) -> None:
        """Begin in a forked child: the lines so far are its parent's, which writes them."""
        self._lines = self._lines.of_child()
        self._begin()
        self._lines.skip()

    def on_event(self, happened: Event | TraceStep) -> None:
        """Note an event or a step. It is written in a moment, or with the first notable one."""
        line = self._lines.line_of(happened)
        if not self._is_open:
            self._held.append(line)
            self._is_open = is_notable(happened)
            if not self._is_open:
                return
            write_at_exit(self._file)
            waiting, self._held = self._held, []
        else:
            waiting = [line]
        for one in waiting:
            self._file.put(partial(_encoded, one))
        if not self._is_scheduled:
            self._is_scheduled = True
            self._disk.begin(self._file.drain).add_done_callback(self._drained)
        elif isinstance(happened, EngineEnded):
            self._disk.begin(self._file.drain).add_done_callback(_ignore_fault)

    def _drained(self, done: "asyncio.Future[None]") -> None:
        _ignore_fault(done)
        self._is_scheduled = False
        if self._file.has_waiting:
            self._is_scheduled = True
            self._disk.begin(self._file.drain).add_done_callback(self._drained)


def record_journal(engine: Recordable, home: str | os.PathLike[str], size: int) -> None:
    """Write a line for each event of an engine to the journal of a home. `open_engine` does it for its engines.

    Nothing is written before something worth a line happens. A home that does not exist is not made.

    Args:
        engine: not started yet.
        home: the folder of the login.
        size: bytes that the files of the journal may have together, about.
    """
    folder = os.path.realpath(home)
    file = JournalFile(journal_path(folder), size)
    recorder = Recorder(file, LineMaker(Redaction(os.fspath(home))))
    engine.subscribe(recorder.on_event)
    engine.subscribe_trace(recorder.on_event)


def describe_program(arguments: list[str]) -> Data:
    """Return what a journal tells of this program: its name, and of authstate's own the command. No other argument."""
    shown = _name_of_program(arguments[0] if arguments else "")
    if shown in _PROGRAMS:
        shown = " ".join([shown, *_command(arguments[1:])])
    return {
        "program": shown,
        "version": RELEASE,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "platform": sys.platform,
    }


def _name_of_program(path: str) -> str:
    """The name of what runs: of a package or a folder, if Python runs its `__main__.py`."""
    if not path:
        return "python"
    folder, name = os.path.split(path.rstrip("/\\") if path.strip("./\\") else os.path.realpath(path))
    if name != "__main__.py":
        return name
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    folder = os.path.realpath(folder)
    is_own = folder in (os.path.realpath(own), os.path.realpath(os.path.join(own, "adapters", "cli")))
    return "authstate" if is_own else os.path.basename(folder)


def _command(words: list[str]) -> list[str]:
    """The command among the arguments of authstate: the first word that is no option, nor the value of one."""
    is_value = False
    for word in words:
        if not is_value and not word.startswith("-"):
            return [word] if word in _COMMANDS else []
        is_value = not is_value and word in _WITH_VALUE
    return []


def _ignore_fault(done: "asyncio.Future[None]") -> None:
    """Take the exception out of a future, so that asyncio does not report it: a journal fails in silence."""
    if not done.cancelled():
        done.exception()


def _encoded(line: Callable[[], Line]) -> bytes:
    return encode(line())


_recorders: WeakSet[Recorder] = WeakSet()


def _after_fork() -> None:
    for recorder in tuple(_recorders):
        recorder.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
