"""Bounds a log: of lines that say the same, the first one is written, and then how many there were in each minute."""

from collections.abc import Callable, Hashable, Mapping

import msgspec

WINDOW = 60.0
"""Seconds between two lines that say the same."""
MOST_LINES = 500
"""Different lines that are told apart at the same time. The others count as one."""

Members = Mapping[str, object]


class _Repeated(msgspec.Struct):
    """A line that was written, and what came since."""

    members: Members
    until: float
    count: int = 0


class RepeatedLines:
    """Writes lines, and counts those that say the same.

    Args:
        write: writes a line.
        monotonic: seconds from an arbitrary start.
    """

    def __init__(self, write: Callable[[Members], None], monotonic: Callable[[], float]) -> None:
        self._write = write
        self._monotonic = monotonic
        self._lines: dict[Hashable, _Repeated] = {}

    def add(self, subject: Hashable, members: Members) -> None:
        """Write a line, or count it if one of the same subject was written in the last minute.

        Args:
            subject: what lines that say the same have in common.
            members: of the line.
        """
        if subject not in self._lines and len(self._lines) >= MOST_LINES:
            subject = None
        line = self._lines.get(subject)
        if line is not None:
            line.count += 1
            return
        self._lines[subject] = _Repeated(members, self._monotonic() + WINDOW)
        self._write(members)

    def flush(self, *, is_end: bool = False) -> None:
        """Write how often lines came again, once a minute is over. Call it about once a second.

        Args:
            is_end: whether this is the last call, which does not wait for the minute.
        """
        now = self._monotonic()
        for subject, line in tuple(self._lines.items()):
            if now < line.until and not is_end:
                continue
            if line.count == 0:
                del self._lines[subject]
                continue
            self._write({**line.members, "repeated": line.count})
            line.count, line.until = 0, now + WINDOW
