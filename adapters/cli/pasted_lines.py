"""Lines that a person pastes at the terminal while a command waits for something else, too."""

import asyncio
import os
from collections.abc import Callable

from authstate.adapters.cli.hidden_input import HiddenInput

_LONGEST = 64 * 1024  # bytes of a line without an end


class PastedLines:
    """Reads lines from a terminal beside everything else that the event loop does. What is typed is not shown.

    A process in the background does not read: the terminal would stop it. Where the event loop cannot watch a terminal
    (Windows), `is_reading` stays false.

    Args:
        descriptor: the terminal, as a rule standard input.
        take: called with each line, without its end.
    """

    def __init__(self, descriptor: int, take: Callable[[str], None]) -> None:
        self.is_reading = False
        """Whether a line that is typed now is taken."""
        self._descriptor = descriptor
        self._take = take
        self._received = b""
        self._hidden = HiddenInput(descriptor)

    def look(self) -> None:
        """Begin to read, or begin again once the process is in the foreground. Call it now and then."""
        if self.is_reading or not self._hidden.is_in_foreground():
            return
        try:
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        except (NotImplementedError, OSError):
            return
        self.is_reading = True
        self._hidden.hide()

    def close(self) -> None:
        """Read no more, and show again what is typed. Any number of times."""
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
