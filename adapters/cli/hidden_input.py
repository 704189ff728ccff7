"""Hides typed text at a terminal while a command waits for a person."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class HiddenInput:
    """Turns the echo of a terminal off and on.

    Does nothing without a terminal. Does nothing while the process is in the background: the terminal would stop it,
    and the settings belong to the process in the foreground.

    Args:
        descriptor: the file descriptor of the terminal, usually standard input.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] | None = None  # the terminal's settings

    def hide(self) -> None:
        """Turn the echo off. May be called repeatedly.

        This hides ^C, too. Linux sends the signal of Ctrl-C first and then decides whether to show ^C. With `NOFLSH`,
        both are one step, so `show` in the process that received the signal cannot come between them.
        """
        if not self.is_in_foreground():
            return
        try:
            import termios
        except ImportError:  # Windows
            return
        with suppress(termios.error):  # not a terminal, or it is closed
            settings = termios.tcgetattr(self._descriptor)
            if self._before is None:
                self._before = [*settings]
            settings[3] = settings[3] & ~termios.ECHO | termios.NOFLSH
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, settings)

    def show(self) -> None:
        """Turn the echo on again and discard unread input. May be called repeatedly."""
        if self._before is None or not self.is_in_foreground():
            return
        import termios

        with suppress(termios.error):  # the terminal is closed
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)
        self._before = None

    def is_in_foreground(self) -> bool:
        """Return whether the terminal lets this process read and change settings."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except (OSError, AttributeError):  # it is not the controlling terminal, which alone stops processes
            return True


@contextmanager
def hidden_input(stream: TextIO | None) -> Iterator[None]:
    """Turn the echo off within a `with` block. Otherwise ^C would appear before the message about the cancellation.

    Does nothing if the stream is not a terminal.
    """
    if stream is None or not stream.isatty():
        yield
        return
    hidden = HiddenInput(stream.fileno())
    hidden.hide()
    try:
        yield
    finally:
        hidden.show()
