"""Hides what is typed at a terminal while a command waits for a person."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class HiddenInput:
    """Turns the echo of a terminal off, and on again.

    Does nothing where there is no terminal, and nothing while the process is in the background: the terminal would stop
    it, and its settings belong to whoever is in the foreground.

    Args:
        descriptor: the terminal, as a rule standard input.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] | None = None  # the terminal's settings

    def hide(self) -> None:
        """Show no more what is typed. Any number of times.

        Ctrl-C is hidden, too. Linux sends the signal first and decides afterwards whether to show ^C; `NOFLSH` makes
        both one step, so that `show` in the process that got the signal cannot come between them.
        """
        if not self.is_in_foreground():
            return
        try:
            import termios
        except ImportError:  # Windows
            return
        with suppress(termios.error):  # no terminal, or one that is gone
            settings = termios.tcgetattr(self._descriptor)
            if self._before is None:
                self._before = [*settings]
            settings[3] = settings[3] & ~termios.ECHO | termios.NOFLSH
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, settings)

    def show(self) -> None:
        """Show again what is typed; what was typed so far and not read is dropped. Any number of times."""
        if self._before is None or not self.is_in_foreground():
            return
        import termios

        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)
        self._before = None

    def is_in_foreground(self) -> bool:
        """Whether the terminal lets this process read and change settings."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except (OSError, AttributeError):  # a terminal that does not control this process never stops it
            return True


@contextmanager
def hidden_input(stream: TextIO | None) -> Iterator[None]:
    """Hide what is typed into this stream within a `with` block: the ^C of a person who gives up would stand before the
    message. Does nothing for a stream that is no terminal.
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
