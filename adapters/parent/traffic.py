"""What slows the traffic between a front-end and its child down: who does not read, and a login that is changing."""

from collections.abc import Callable
from typing import Protocol

_MOST_HELD = 1024 * 1024  # bytes that a closed gate holds before the reader behind it is stopped


class PausableReader(Protocol):
    """Where bytes come from."""

    def pause_reading(self) -> None:
        """Feed no more until `resume_reading`."""

    def resume_reading(self) -> None:
        """Go on."""


class Holdable(Protocol):
    """Other requests on their way to the child: a `Gate`."""

    def hold(self) -> None:
        """Let none of them pass from here on."""

    def release(self) -> None:
        """End one `hold`."""


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


class Gate:
    """Lets bytes pass, in order, but for the time that somebody holds it: then they wait.

    Whoever changes the login of the child holds it, so that no request reaches the child between two logins. It may be
    held by several at once.

    Args:
        write: where the bytes go.
        source: where they come from, stopped while much is waiting.
    """

    def __init__(self, write: Callable[[bytes], None], source: Throttle) -> None:
        self._write = write
        self._source = source
        self._holders = 0
        self._waiting: list[bytes] = []
        self._size = 0
        self._at_end: Callable[[], None] | None = None

    def hold(self) -> None:
        """Let nothing pass from here on."""
        self._holders += 1

    def release(self) -> None:
        """End one `hold`. With the last one, what waits passes."""
        self._holders -= 1
        if self._holders <= 0:
            self._open()

    def let_pass(self, data: bytes) -> None:
        """Pass these bytes on, now or when the gate opens."""
        if self._holders <= 0:
            self._write(data)
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._size > _MOST_HELD:
            self._source.stop("the gate is closed")

    def finish(self, at_end: Callable[[], None]) -> None:
        """Nothing more will come: call back once everything has passed."""
        if self._holders <= 0:
            at_end()
        else:
            self._at_end = at_end

    def force(self) -> None:
        """Open it for good, whoever holds it: waiting longer would be worse."""
        self._holders = -(1 << 30)
        self._open()

    def _open(self) -> None:
        if self._waiting:
            data, self._waiting, self._size = b"".join(self._waiting), [], 0
            self._write(data)
            self._source.go("the gate is closed")
        if self._at_end is not None:
            at_end, self._at_end = self._at_end, None
            at_end()
