"""Writes what a peer sends: everything that one read causes goes out in one write."""

from typing import Protocol

from authstate.adapters.confidential import without_frames


class Writer(Protocol):
    """Sends a peer's bytes. Never blocks, and calls `Peer.pause_writing` when it holds too much."""

    def write(self, data: bytes) -> None:
        """Send the data, or hold it until it can be sent."""
        ...


class BatchedOutput:
    """Collects lines between `begin` and `flush`, and writes them at once. Writes nothing once `is_closed` is set."""

    def __init__(self) -> None:
        self.writer: Writer | None = None
        self.is_closed = False
        self._batch: list[bytes] | None = None

    def begin(self) -> bool:
        """Start to collect lines. Return the argument for `flush`: False if lines are already being collected."""
        if self._batch is not None:
            return False
        self._batch = []
        return True

    def flush(self, is_mine: bool) -> None:
        """Write what was collected, if `begin` returned True."""
        if not is_mine:
            return
        batch, self._batch = self._batch, None
        fault = self._write(b"".join(batch)) if batch else None
        del batch
        if fault is not None:
            raise fault

    def send(self, line: bytes) -> None:
        """Write a line, or collect it.

        Raises:
            RuntimeError: the writer failed. It names the class of the fault, and its frames do not hold the line.
        """
        if self._batch is not None:
            self._batch.append(line)
            return
        fault = self._write(line)
        del line
        if fault is not None:
            raise fault

    def _write(self, data: bytes) -> RuntimeError | None:
        """Write, if there is a writer. Return a fault, because the frame that raises it must not hold the data."""
        try:
            if self.writer is not None and not self.is_closed:
                self.writer.write(data)
        except Exception as error:
            return without_frames(error)
        return None
