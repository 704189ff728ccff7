"""What slows the traffic between a front-end and its child down: who does not read, and a login that is changing."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

_MOST_HELD = 1024 * 1024  # bytes that a closed gate holds before the reader behind it is stopped
_CLOSED = "the gate is closed"


class PausableReader(Protocol):
    """Where bytes come from."""

    def pause_reading(self) -> None:
        """Feed no more until `resume_reading`."""

    def resume_reading(self) -> None:
        """Go on."""


class Throttle:
    """Stops a reader for as long as anybody has a reason to."""

    def __init__(self) -> None:
        self._reader: PausableReader | None = None
        self._reasons: set[str] = set()

    def control(self, reader: PausableReader) -> None:
        """The reader to stop; it may come after the first reason."""
        self._reader = reader
        if self._reasons:
            reader.pause_reading()

    def stop(self, reason: str) -> None:
        """Stop the reader, and remember why."""
        if not self._reasons and self._reader is not None:
            self._reader.pause_reading()
        self._reasons.add(reason)

    def go(self, reason: str) -> None:
        """This is no reason any more. The reader goes on once there is none."""
        if reason in self._reasons:
            self._reasons.discard(reason)
            if not self._reasons and self._reader is not None:
                self._reader.resume_reading()


class _Waiting(NamedTuple):
    """What waits at a gate: bytes, or a change that is to begin."""

    size: int
    data: bytes
    begin: Callable[[], None] | None


class Gate:
    """Lets bytes pass, in order, but for the time that somebody holds it: then they wait.

    Whoever changes the login of the child holds it, so that no request reaches the child between two logins. It may be
    held by several at once. A change that comes while it is held waits in the same row, so that what came before the
    change passes before it.

    Args:
        write: where the bytes go.
        source: where they come from, stopped while much is waiting.
    """

    def __init__(self, write: Callable[[bytes], None], source: Throttle) -> None:
        self._write = write
        self._source = source
        self._holders = 0
        self._waiting: deque[_Waiting] = deque()
        self._size = 0
        self._changes = 0

    def hold(self) -> None:
        """Let nothing pass from here on."""
        self._holders += 1

    def release(self) -> None:
        """End one `hold`. With the last one, what waits passes."""
        self._holders -= 1
        self._pass_on()

    def force(self) -> None:
        """Open it for good, whoever holds it: waiting longer would be worse."""
        self._holders = -(1 << 30)
        self._pass_on()

    @property
    def has_change(self) -> bool:
        """Whether a change waits in the row."""
        return self._changes > 0

    def let_pass(self, data: bytes) -> None:
        """Pass these bytes on, now or when it is their turn."""
        if self._holders <= 0:
            self._write(data)
        else:
            self._wait(_Waiting(len(data), data, None))

    def change(self, begin: Callable[[], None], size: int = 0) -> None:
        """Begin a change now, or when it is its turn; it may hold the gate. `size`: the bytes that it keeps waiting."""
        if self._holders <= 0:
            begin()
        else:
            self._changes += 1
            self._wait(_Waiting(size, b"", begin))

    def _wait(self, one: "_Waiting") -> None:
        self._waiting.append(one)
        self._size += one.size
        if self._size > _MOST_HELD:
            self._source.stop(_CLOSED)

    def _pass_on(self) -> None:
        while self._waiting and self._holders <= 0:
            if self._waiting[0].begin is None:
                self._write(b"".join(self._bytes_in_front()))
            else:
                one = self._waiting.popleft()
                self._size -= one.size
                self._changes -= 1
                if one.begin is not None:
                    one.begin()
        if self._size <= _MOST_HELD:
            self._source.go(_CLOSED)

    def _bytes_in_front(self) -> Iterator[bytes]:
        while self._waiting and self._waiting[0].begin is None:
            one = self._waiting.popleft()
            self._size -= one.size
            yield one.data
