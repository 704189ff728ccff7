"""Which tests hold each cell of the tables: what is recorded in diagrams/coverage.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

KINDS = ("unit", "model", "process")
"""The kinds of tests, in the order in which they are shown."""


class HeldCell(msgspec.Struct, frozen=True):
    """The tests that reach one outcome of a cell."""

    state: str
    trigger: str
    outcome: str
    """`row`, `refused by guard` or `missing`."""
    held_by: Mapping[str, tuple[str, ...]]
    """The names of test files, by kind."""


Held = Mapping[str, Sequence[HeldCell]]
"""The cells of each table, by its name."""


class UnreadableCoverage(Exception):
    """The record of the tests is not one. The message names the file and says what to do."""


def read_held_by(path: Path) -> Held:
    """Return what a file records, or nothing if there is no such file.

    Raises:
        UnreadableCoverage: it is not such a record.
        OSError: it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, tuple[HeldCell, ...]])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        why = f"{path} is not a record of the tests ({error}): write it anew, or remove it"
        raise UnreadableCoverage(why) from None
