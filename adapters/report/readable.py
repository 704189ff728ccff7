"""Leaves out the lines whose numbers cannot be: any program of the user can write to a journal."""

from collections.abc import Iterable

import msgspec

from authstate.adapters.journal.lines import Line
from authstate.adapters.journal.reader import Journal

_MOST_LINES = 10**12
_MOST_PID = 2**32
_LAST_YEAR = 253_402_300_800.0  # the end of the year 9999, in seconds since the epoch
_MOST_NUMBER = 10**12


def with_readable_lines(journal: Journal) -> Journal:
    """Return a journal whose other lines count as unreadable."""
    lines = tuple(_readable(journal.lines))
    unreadable = journal.unreadable + len(journal.lines) - len(lines)
    return msgspec.structs.replace(journal, lines=lines, unreadable=unreadable)


def _readable(lines: Iterable[Line]) -> Iterable[Line]:
    for line in lines:
        if 1 <= line.n <= _MOST_LINES and 0 <= line.pid < _MOST_PID and 0.0 <= line.at < _LAST_YEAR:
            yield line


def number_of(value: object) -> str:
    """Return a count or a duration as it is shown. One that cannot be is named so."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST_NUMBER:
        return str(value)
    return "an unreadable number of"
