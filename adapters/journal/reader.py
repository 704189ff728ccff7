"""Reads a journal: both files, the older one first, whatever is in them."""

import os
from collections.abc import Iterable

import msgspec

from authstate.adapters.io.regular_files import read_regular_file
from authstate.adapters.journal.lines import VERSION, Line, decode, journal_path

_LARGEST = 64 * 1024 * 1024  # bytes of one file; a ring is smaller


class Journal(msgspec.Struct, frozen=True):
    """What a journal holds."""

    lines: tuple[Line, ...] = ()
    """In the order in which they were written. The lines of one engine are in the order of what happened."""
    unreadable: int = 0
    """How many lines are no lines: a process was killed while it wrote one, for example."""
    newer: int = 0
    """How many lines a newer release wrote in a newer format. They are left out."""
    faults: tuple[str, ...] = ()
    """Which files could not be read, and why."""


def read_journal(home: str | os.PathLike[str]) -> Journal:
    """Read the journal of a home. A missing file is empty. Blocks; raises nothing."""
    first = journal_path(os.path.realpath(home))
    parts: list[bytes] = []
    faults: list[str] = []
    for path in (first, first + ".1"):  # if the first one becomes the second one meanwhile, it is read twice
        try:
            parts.insert(0, read_regular_file(path, _LARGEST))
        except FileNotFoundError:
            continue
        except OSError as fault:
            faults.append(f"{os.path.basename(path)} cannot be read: {(fault.strerror or 'it is no file').lower()}")
    found = parse_journal(line for part in parts for line in part.split(b"\n"))
    return msgspec.structs.replace(found, faults=tuple(faults))


def parse_journal(texts: Iterable[bytes]) -> Journal:
    """Make a journal of lines without line breaks. Empty lines count for nothing."""
    lines: list[Line] = []
    unreadable = newer = 0
    for text in texts:
        if not text.strip():
            continue
        line = decode(text)
        if line is None:
            unreadable += 1
        elif line.v > VERSION:
            newer += 1
        else:
            lines.append(line)
    return Journal(tuple(_without_copies(lines)), unreadable, newer)


def _without_copies(lines: list[Line]) -> Iterable[Line]:
    """Leave out a line that is there twice: while it was read, the first file became the second."""
    seen: set[tuple[str, int]] = set()
    for line in lines:
        if (key := (line.by, line.n)) not in seen:
            seen.add(key)
            yield line
