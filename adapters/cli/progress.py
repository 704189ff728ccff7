"""Shows that a command waits for a person: a line with the time left on a terminal, one sentence elsewhere."""

import shutil
from typing import TextIO

from authstate.adapters.cli.exit_status import printable

_ECHO = "^C"  # the terminal itself appends this to the line


class Countdown:
    """Shows what a command waits for, and the time left.

    On a terminal, the line is overwritten with carriage returns and spaces, which every terminal supports. Elsewhere,
    each change of the text is printed as a new line, without the time.

    Args:
        out: the stream to write to.
        what: what the command waits for, in a few words.
    """

    def __init__(self, out: TextIO, what: str) -> None:
        self._out = out
        self._what = what
        self._is_terminal = out.isatty()
        self._shown = ""

    def prepare(self, doing: str) -> None:
        """On a terminal, show what happens before the wait begins. `clear` removes it."""
        if self._is_terminal:
            self._draw(printable(doing)[: _width()])

    def show(self, left: float, trouble: str | None = None) -> None:
        """Update the line.

        Args:
            left: the time left, in seconds.
            trouble: a current problem.
        """
        note = f" ({printable(trouble)})" if trouble else ""
        if self._is_terminal:
            minutes, seconds = divmod(max(0, round(left)), 60)
            self._draw(f"{self._what}, {minutes}:{seconds:02} left. Ctrl-C cancels.{note}"[: _width()])
        elif self._shown != self._what + note:
            self._shown = self._what + note
            print(f"{self._shown}, for {max(1, round(left / 60))} minutes at most.", file=self._out, flush=True)

    def clear(self) -> None:
        """Remove the line, so that other output can take its place."""
        if self._is_terminal and self._shown:
            blanks = min(len(self._shown) + len(_ECHO), _width())
            self._out.write("\r" + " " * blanks + "\r")
            self._out.flush()
            self._shown = ""

    def _draw(self, text: str) -> None:
        self._out.write("\r" + text.ljust(len(self._shown)))
        self._out.flush()
        self._shown = text


def fitted(text: str, out: TextIO) -> str:
    """Wrap a text to the width of the terminal, at most 100 columns. Return it unchanged without a terminal."""
    if not out.isatty():
        return text
    import textwrap

    return textwrap.fill(text, min(_width(), 100))


def _width() -> int:
    """Return how many characters fit on a line. The last column stays free: writing there may start a new line."""
    return shutil.get_terminal_size().columns - 1
