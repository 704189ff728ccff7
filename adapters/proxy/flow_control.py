"""Flow control between a front-end and its child: backpressure, and a gate for the time that the login changes."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from authstate.adapters.jsonrpc.peer import Writer

_MAX_HELD = 1024 * 1024  # bytes that a closed gate holds before the reader behind it is paused
_CLOSED, _FULL, _ANSWERS_WAIT = "the gate is closed", "the other endpoint is full", "answers are waiting"


class PausableReader(Protocol):
    """Where bytes come from."""

    def pause_reading(self) -> None:
        """Feed no more until `resume_reading`."""

    def resume_reading(self) -> None:
        """Go on."""


class ReadControl:
    """Pauses a reader for as long as anybody has a reason to."""

    def __init__(self) -> None:
        self._reader: PausableReader | None = None
        self._reasons: set[str] = set()

    def attach(self, reader: PausableReader) -> None:
        """Set the reader to control; it may come after the first reason."""
        self._reader = reader
        if self._reasons:
            reader.pause_reading()

    def pause(self, reason: str) -> None:
        """Pause the reader, and remember why."""
        if not self._reasons and self._reader is not None:
            self._reader.pause_reading()
        self._reasons.add(reason)

    def resume(self, reason: str) -> None:
        """Drop a reason. The reader goes on once there is none."""
        if reason in self._reasons:
            self._reasons.discard(reason)
            if not self._reasons and self._reader is not None:
                self._reader.resume_reading()


class Endpoint:
    """The bytes to and from the front-end or the child: a writer that may be full, and a reader that can be paused."""

    def __init__(self) -> None:
        self.reads: ReadControl = ReadControl()
        """Pauses what comes from it."""
        self._writer: Writer | None = None
        self._other: Endpoint | None = None
        self._is_full = False

    def connect(self, writer: Writer, other: "Endpoint") -> None:
        """Set where bytes for it go, and the endpoint that they come from."""
        self._writer = writer
        self._other = other

    def write(self, data: bytes) -> None:
        """Send, or hold until it can be sent."""
        if self._writer is not None:
            self._writer.write(data)

    def apply_backpressure(self) -> None:
        """Call before it is answered: while answers would wait, it may send no more requests."""
        if self._is_full:
            self.reads.pause(_ANSWERS_WAIT)

    def pause_writing(self) -> None:
        """The writer holds too much (see `Flow`)."""
        self._is_full = True
        if self._other is not None:
            self._other.reads.pause(_FULL)

    def resume_writing(self) -> None:
        """The writer has room again."""
        self._is_full = False
        self.reads.resume(_ANSWERS_WAIT)
        if self._other is not None:
            self._other.reads.resume(_FULL)


class _Waiting(NamedTuple):
    """What waits at a gate: bytes, or a change that begins at its turn."""

    size: int
    data: bytes
    begin: Callable[[], None] | None


class Gate:
    """Lets bytes pass in order. While somebody holds it, they wait.

    Whoever changes the login of the child holds the gate, so that no request reaches the child between two logins.
    Several may hold it at once. A change that comes while it is held waits in the same queue, so that what came before
    the change passes before it.

    Args:
        write: where the bytes go.
        source: where they come from, paused while more than 1 MiB waits.
    """

    def __init__(self, write: Callable[[bytes], None], source: ReadControl) -> None:
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
        """Open it for good, whoever holds it."""
        self._holders = -(1 << 30)
        self._pass_on()

    @property
    def has_change(self) -> bool:
        """Whether a change waits in the queue."""
        return self._changes > 0

    def let_pass(self, data: bytes) -> None:
        """Pass these bytes on, now or when it is their turn."""
        if self._holders <= 0:
            self._write(data)
        else:
            self._wait(_Waiting(len(data), data, None))

    def change(self, begin: Callable[[], None], size: int = 0) -> None:
        """Begin a change now, or when it is its turn.

        Args:
            begin: may hold the gate.
            size: the bytes that the change keeps waiting.
        """
        if self._holders <= 0:
            begin()
        else:
            self._changes += 1
            self._wait(_Waiting(size, b"", begin))

    def _wait(self, one: _Waiting) -> None:
        self._waiting.append(one)
        self._size += one.size
        if self._size > _MAX_HELD:
            self._source.pause(_CLOSED)

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
        if self._size <= _MAX_HELD:
            self._source.resume(_CLOSED)

    def _bytes_in_front(self) -> Iterator[bytes]:
        while self._waiting and self._waiting[0].begin is None:
            one = self._waiting.popleft()
            self._size -= one.size
            yield one.data
