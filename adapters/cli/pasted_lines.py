"""Reads lines that a person pastes at the terminal, while a command also waits for something else."""

import asyncio
import os
from collections.abc import Callable

from authstate.adapters.cli.hidden_input import HiddenInput

_LONGEST = 64 * 1024  # bytes; of a longer line, the end is kept


class PastedLines:
    """Reads lines from a terminal in the event loop, with the echo turned off.

    A process in the background does not read, because the terminal would stop it. On Windows, where event loops cannot
    watch a terminal, `is_reading` stays false.

    Args:
        descriptor: the file descriptor of the terminal, usually standard input.
        take: called with each line, stripped.
    """

    def __init__(self, descriptor: int, take: Callable[[str], None]) -> None:
        self.is_reading: bool = False
        """Whether the terminal is being read."""
        self._descriptor = descriptor
        self._take = take
        self._received = b""
        self._hidden = HiddenInput(descriptor)

    def look(self) -> None:
        """Start reading if the process is in the foreground. Call it about once a second."""
        if self.is_reading or not self._hidden.is_in_foreground():
            return
        try:
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        except (NotImplementedError, OSError):
            return
        self.is_reading = True
        self._hidden.hide()

    def close(self) -> None:
        """Stop reading and turn the echo on again. May be called repeatedly."""
        if self.is_reading:
            self._stop()
        self._hidden.show()

    def _stop(self) -> None:
        self.is_reading = False
        asyncio.get_running_loop().remove_reader(self._descriptor)

    def _read(self) -> None:
        if not self._hidden.is_in_foreground():
            self._stop()
            return
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:
            data = b""
        if not data:
            self._stop()
            return
        *lines, self._received = (self._received + data).split(b"\n")
        self._received = self._received[-_LONGEST:]
        for line in lines:
            if text := line.decode("utf-8", "replace").strip():
                self._take(text)
