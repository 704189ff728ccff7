"""Lines that a person pastes at the terminal while a command waits for something else, too."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

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
        self._shown: list[Any] | None = None  # the terminal's settings from before

    def look(self) -> None:
        """Begin to read, or begin again once the process is in the foreground. Call it now and then."""
        if self.is_reading or not self._is_in_foreground():
            return
        try:
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        except (NotImplementedError, OSError):
            return
        self.is_reading = True
        self._hide()

    def close(self) -> None:
        """Read no more, and show again what is typed. Any number of times."""
        if self.is_reading:
            self._stop()
        if self._shown is None or not self._is_in_foreground():
            return
        import termios

        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._shown)
        self._shown = None

    def _stop(self) -> None:
        self.is_reading = False
        asyncio.get_running_loop().remove_reader(self._descriptor)

    def _read(self) -> None:
        if not self._is_in_foreground():
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

    def _hide(self) -> None:
        import termios

        with suppress(termios.error):  # no terminal, or one that is gone
            settings = termios.tcgetattr(self._descriptor)
            if self._shown is None:
                self._shown = [*settings]
            settings[3] &= ~termios.ECHO
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, settings)

    def _is_in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except (OSError, AttributeError):  # a terminal that does not control this process never stops it
            return True
