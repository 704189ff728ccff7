"""diagrams/coverage.md: the coverage as tables of state and trigger, with a picture and what is held thinly."""

from collections.abc import Iterator, Sequence

from support.table_coverage.cells import Cell, reasons, row_of
from support.table_coverage.recorder import MISSING, REFUSED, ROW
from support.table_coverage.records import KINDS, Coverage, HeldCell

from authstate.engine.machines.table import Table

LETTERS = {kind: kind[0].upper() for kind in KINDS}
_SIGNS = {"all": "🟢", "two": "🔵", "one": "🔶", "no-row": "⚪", "hand": "✋", "none": "❌"}
_BY_STRENGTH = {3: "all", 2: "two", 1: "one"}

_HEAD = """# Coverage of the state tables

Which kinds of test exercise each cell of the tables: each trigger in each state. Written by
`python -m support.table_coverage` after a run of the tests. Do not edit.
[CONTRIBUTING](../CONTRIBUTING.md#coverage-of-the-tables) explains it, and [coverage.json](coverage.json) names the test
files.

![The same as a picture](coverage.svg)

| sign | exercised by |
|---|---|
| 🟢 `UMP` | all kinds of test: unit tests, tests against a model, real processes |
| 🔵 `U·P` | two of them |
| 🔶 `U··` | one of them |
| ⚪ `U··` | some of them; there is no row, and nothing changes |
| ✋ `U··` | tests that move the machine by hand, because no code of authstate fires the trigger there |
| ❌ `···` | nobody |

A row says where it leads. If it has a guard, both answers of the guard are exercised.
"""


def coverage_page(coverage: Coverage, tables: Sequence[Table]) -> str:
    """The whole page."""
    parts = [_HEAD]
    for table in tables:
        held = {(cell.state, cell.trigger, cell.outcome): cell for cell in coverage[table.name]}
        parts.append("\n".join([f"## {table.title}", "", *_grid(table, held), "", *_thin(table, coverage)]))
    return "\n".join(parts).rstrip() + "\n"


def letters_of(cell: HeldCell) -> str:
    """The kinds that hold a cell, a letter each, with a dot for one that does not."""
    return "".join(LETTERS[kind] if cell.held_by[kind] else "·" for kind in KINDS)


def strength_of(cell: HeldCell) -> int:
    """How many kinds of test hold a cell."""
    return sum(bool(cell.held_by[kind]) for kind in KINDS)


def class_of(cell: HeldCell) -> str:
    """How well a cell is held: `all`, `two` or `one` kind of test; `no-row`, `hand` or `none`."""
    if not (strength := strength_of(cell)):
        return "none"
    if cell.by_hand:
        return "hand"
    return "no-row" if cell.outcome == MISSING else _BY_STRENGTH[strength]


def outcome_text(table: Table, cell: HeldCell) -> str:
    """What a cell does, in a few words."""
    row = row_of(table, cell.state, cell.trigger)
    if row is None:
        return "no row"
    return f"→ {row.target}" if cell.outcome == ROW else f"{row.guard}: no"


def _grid(table: Table, held: dict[tuple[str, str, str], HeldCell]) -> Iterator[str]:
    yield "| state | " + " | ".join(f"`{trigger}`" for trigger in table.triggers) + " |"
    yield "|---" * (1 + len(table.triggers)) + "|"
    for state in table.states:
        cells = []
        for trigger in table.triggers:
            found = [held[key] for outcome in (ROW, REFUSED, MISSING) if (key := (state, trigger, outcome)) in held]
            cells.append("<br>".join(_text(table, cell) for cell in found))
        yield f"| `{state}` | " + " | ".join(cells) + " |"


def _text(table: Table, cell: HeldCell) -> str:
    text = "" if cell.outcome == MISSING else f" {outcome_text(table, cell)}"
    return f"{_SIGNS[class_of(cell)]} `{letters_of(cell)}`{text}"


def _thin(table: Table, coverage: Coverage) -> Iterator[str]:
    """The rows and guards that only one kind of test holds, and the cells that no code reaches."""
    cells = coverage[table.name]
    for kind in KINDS:
        alone = [cell for cell in cells if class_of(cell) == "one" and cell.held_by[kind]]
        named = [f"`{cell.state}` × `{cell.trigger}`" for cell in alone if cell.outcome == ROW]
        guarded = [f"`{cell.state}` × `{cell.trigger}`" for cell in alone if cell.outcome == REFUSED]
        if named:
            yield f"- Rows that only {kind} tests hold: {', '.join(named)}."
        if guarded:
            yield f"- Refusals by a guard that only {kind} tests hold: {', '.join(guarded)}."
    explained = reasons()
    for cell in cells:
        if cell.by_hand:
            why = explained.get(Cell(table.name, cell.state, cell.trigger, cell.outcome), "no reason is given")
            yield f"- Nobody fires `{cell.trigger}` in `{cell.state}`: {why}."
    yield ""
