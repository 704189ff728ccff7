"""How a command shows that it waits for a person: a line with the time left on a terminal, one sentence elsewhere."""

import shutil
from typing import TextIO

from authstate.adapters.cli.exit_status import printable

_ECHO = "^C"  # what the terminal itself writes behind the line when the person gives up


class Countdown:
    """Shows what is waited for, and for how long yet.

    On a terminal the line is written over with nothing but carriage returns and blanks, which every terminal knows. On
    what is no terminal each change of the text is a line of its own, without the time.

    Args:
        out: where to.
        what: what is waited for, in a few words.
    """

    def __init__(self, out: TextIO, what: str) -> None:
        self._out = out
        self._what = what
        self._is_terminal = out.isatty()
        self._shown = ""

    def prepare(self, doing: str) -> None:
        """Say on a terminal what is done before the waiting begins. `clear` takes it away."""
        if self._is_terminal:
            self._draw(printable(doing)[: _width()])

    def show(self, left: float, trouble: str | None = None) -> None:
        """Bring the line up to date.

        Args:
            left: seconds.
            trouble: what goes wrong just now.
        """
        note = f" ({printable(trouble)})" if trouble else ""
        if self._is_terminal:
            minutes, seconds = divmod(max(0, round(left)), 60)
            self._draw(f"{self._what}, {minutes}:{seconds:02} left. Ctrl-C cancels.{note}"[: _width()])
        elif self._shown != self._what + note:
            self._shown = self._what + note
            print(f"{self._shown}, for {max(1, round(left / 60))} minutes at most.", file=self._out, flush=True)

    def clear(self) -> None:
        """Take the line away, so that what follows stands in its place."""
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
    """The text in lines that are as long as a terminal is wide, and can be read; whole where there is no terminal."""
    if not out.isatty():
        return text
    import textwrap

    return textwrap.fill(text, min(_width(), 100))


def _width() -> int:
    """How many characters fit without a new line: the last column is left free."""
    return shutil.get_terminal_size().columns - 1
