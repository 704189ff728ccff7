"""The cells of a table: what each trigger does in each state."""

from collections.abc import Iterator

import msgspec

from authstate.engine.machines.table import Row, Table
from authstate.engine.machines.words import IGNORED, Words


class Cell(msgspec.Struct, frozen=True):
    """What a trigger does in a state."""

    state: str
    trigger: str
    row: Row | None
    """The row that allows it, or None."""
    errors: tuple[str, ...]
    """The names of the errors that refuse it: those of the guard, or the one for a cell without a row. None for a cell
    without a row: it is ignored.
    """

    @property
    def is_ignored(self) -> bool:
        """Whether nothing happens and nothing is raised."""
        return self.row is None and not self.errors


def cells_of(table: Table, words: Words) -> Iterator[Cell]:
    """Yield every cell, state by state, in the order of the table."""
    for state in table.states:
        for trigger in table.triggers:
            yield _cell(table, words, state, trigger)


def _cell(table: Table, words: Words, state: str, trigger: str) -> Cell:
    for row in table.rows:
        if row.trigger == trigger and state in row.sources:
            return Cell(state, trigger, row, tuple(words.refusals.get(row.guard, ())) if row.guard else ())
    error = words.refusal(state, trigger)
    return Cell(state, trigger, None, () if error == IGNORED else (error,))
