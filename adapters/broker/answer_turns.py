"""Gives codex processes of 0.93.0 that share a home their answers one after the other.

After each answer, 0.93.0 reads auth.json, empties it and writes it. A process that reads what another one has just
emptied fails its turn ("EOF while parsing a value", measured). So the next answer waits until the file was written, at
most a quarter of a second. A file beside auth.json tells every broker whose turn it is, because each `authstate run`
has a broker of its own. Where auth.json of a client is not known, as in a sandbox, it gets a moment to write.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from authstate.engine.ports import Clock

if TYPE_CHECKING:
    import fcntl
else:
    try:
        import fcntl
    except ModuleNotFoundError:  # on Windows
        fcntl = None

SUFFIX = ".authstate.turns"
"""Of the file beside auth.json."""
LONGEST_TURN = 0.25
"""Seconds after which the next one has its turn, even if nothing was written."""

_LOOK_EVERY = 0.005  # seconds
_LONGEST_WAIT = 5.0  # seconds, for all turns before
_SETTLED = 0.01  # seconds since the last write to auth.json: it is written in two steps
_TIME_TO_WRITE = 0.025  # seconds, where nobody sees whether it was written
_MOST_TURNS = 1000  # clients that are kept; those whose turn is over need not be


class _Turn(msgspec.Struct, frozen=True):
    """Who had the last answer."""

    until: float
    """Seconds since the epoch: when its time is over at the latest."""
    seen: int
    """When auth.json was written last, in nanoseconds, before the answer."""


class AnswerTurns:
    """The turns of the homes that a broker serves.

    Args:
        clock: for the waits.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next_turns: dict[str, float] = {}  # by client, where its auth.json is not known

    async def wait_in_home(self, home: str) -> None:
        """Wait until the process before, whichever broker answered it, has written auth.json in this home.

        Where nothing can be noted, there are no turns. Raises nothing. Safe to cancel.
        """
        auth_file = os.path.join(home, "auth.json")
        end = self._clock.monotonic() + _LONGEST_WAIT
        while not self._take(auth_file) and self._clock.monotonic() < end:
            await self._clock.sleep(_LOOK_EVERY)

    async def wait_elsewhere(self, client: str) -> None:
        """Wait until the process before, which presented the same handle, has had time to write. Safe to cancel."""
        now = self._clock.monotonic()
        if len(self._next_turns) > _MOST_TURNS:
            self._next_turns = {name: turn for name, turn in self._next_turns.items() if turn > now}
        turn = max(now, self._next_turns.get(client, now))
        self._next_turns[client] = turn + _TIME_TO_WRITE
        if turn > now:
            await self._clock.sleep(turn - now)

    def _take(self, auth_file: str) -> bool:
        """Take the turn, unless another process has it. Blocks briefly."""
        try:
            with _locked(auth_file + SUFFIX) as handle:
                written = os.stat(auth_file).st_mtime_ns
                if _is_taken(_read(handle), written):
                    return False
                _write(handle, _Turn(time.time() + LONGEST_TURN, written))
        except BlockingIOError:  # another broker takes its turn at this moment
            return False
        except OSError:
            return True
        return True


def _is_taken(turn: _Turn | None, written: int) -> bool:
    """Whether somebody has had an answer and has not written yet. A clock that was put back ends a turn, too."""
    now = time.time()
    if turn is None or not now < turn.until <= now + LONGEST_TURN:
        return False
    return written == turn.seen or now - written / 1e9 < _SETTLED


@contextmanager
def _locked(path: str) -> Iterator[int]:
    """Open a file and lock it. Raises OSError: there is no such folder, no lock, or another process has it."""
    if fcntl is None:
        raise OSError("no file locks")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


def _read(handle: int) -> _Turn | None:
    with suppress(ValueError):
        return msgspec.json.decode(os.pread(handle, 1024, 0), type=_Turn)
    return None


def _write(handle: int, turn: _Turn) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, msgspec.json.encode(turn), 0)
