"""What there is to exercise: each outcome of each cell of every table, and the cells that only a test can reach."""

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from support.table_coverage.recorder import MISSING, REFUSED, ROW

from authstate.engine.machines.table import Row, Table

ONLY_BY_HAND = Path(__file__).with_name("only_by_hand.toml")


class Cell(msgspec.Struct, frozen=True, order=True):
    """One outcome of a trigger in a state."""

    table: str
    state: str
    trigger: str
    outcome: str
    """`row`, `refused by guard` or `missing`."""

    def __str__(self) -> str:
        return f"{self.state} × {self.trigger} ({self.outcome})"


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why only a test that moves the machine itself, and no code of authstate, fires a trigger in some states."""

    table: str
    trigger: str
    states: tuple[str, ...]
    reason: str

    @property
    def cells(self) -> Iterator[Cell]:
        """Such a cell has no row: a row that nobody can reach is a fault of its table."""
        return (Cell(self.table, state, self.trigger, MISSING) for state in self.states)


def row_of(table: Table, state: str, trigger: str) -> Row | None:
    """The row of a cell, or None."""
    return next((row for row in table.rows if row.trigger == trigger and state in row.sources), None)


def cells_of(table: Table) -> Iterator[Cell]:
    """All outcomes of all cells of a table, in the order of its states and triggers."""
    for state in table.states:
        for trigger in table.triggers:
            row = row_of(table, state, trigger)
            outcomes = (MISSING,) if row is None else (ROW, REFUSED) if row.guard else (ROW,)
            yield from (Cell(table.name, str(state), str(trigger), outcome) for outcome in outcomes)


def all_cells(tables: Sequence[Table]) -> list[Cell]:
    """All outcomes of all cells of these tables."""
    return [cell for table in tables for cell in cells_of(table)]


def reasons(path: Path = ONLY_BY_HAND) -> dict[Cell, str]:
    """Why only a test can reach a cell.

    Raises ValueError if a cell has two reasons or one is empty, and msgspec.ValidationError for another form.
    """
    with path.open("rb") as file:
        entries = msgspec.convert(tomllib.load(file).get("cells", []), list[Reason])
    found: dict[Cell, str] = {}
    for entry in entries:
        for cell in entry.cells:
            if cell in found or not entry.reason.strip():
                raise ValueError(f"{path}: {cell.table}: {cell} needs one reason")
            found[cell] = entry.reason
    return found
