"""What can happen in each state: which triggers are refused now, which are allowed now, and which lead elsewhere.

A cell is a state and a trigger. Its outcome is the rows that the trigger finds there, or a refusal.
"""

from enum import StrEnum

import msgspec

from authstate.adapters.tables.table_data import TableData, rows_in
from authstate.engine.machines.table import Row, Table


class CellFate(StrEnum):
    """What became of a cell."""

    REFUSED = "newly refused"
    ALLOWED = "newly allowed"
    ELSEWHERE = "leads elsewhere"
    GUARDED = "guarded differently"
    EFFECT = "another effect"
    OTHER_ERROR = "refused with another error"


class CellChange(msgspec.Struct, frozen=True):
    """One cell whose outcome is not the same in both versions."""

    fate: CellFate
    state: str
    trigger: str
    old: tuple[Row, ...]
    """The rows that the trigger found. Empty: it was refused."""
    new: tuple[Row, ...]
    old_error: str | None = None
    """What a refusal raised, "" if nothing happened. None if the trigger was allowed, or the version has no words."""
    new_error: str | None = None


def cell_changes(old: TableData, new: TableData) -> tuple[CellChange, ...]:
    """Return every changed cell of the states of the new version, in its order, and then of its triggers.

    A state that is gone has no cells. In a state that is new, only what is allowed is a change.
    """
    before, after = old.table.triggers, new.table.triggers
    shared = frozenset(before) & frozenset(after)
    cells = ((state, trigger) for state in new.table.states for trigger in dict.fromkeys((*after, *before)))
    found = (_change(old, new, state, trigger, shared) for state, trigger in cells)
    return tuple(change for change in found if change is not None)


def reached(table: Table) -> set[str]:
    """Return the states that some triggers lead to from the initial one, which is one of them."""
    found, waiting = {table.initial}, [table.initial]
    while waiting:
        state = waiting.pop()
        for row in table.rows:
            if state in row.sources and row.target not in found:
                found.add(row.target)
                waiting.append(row.target)
    return found


def end_states(table: Table) -> set[str]:
    """Return the states that no row leaves."""
    return set(table.finals)


def _change(old: TableData, new: TableData, state: str, trigger: str, shared: frozenset[str]) -> CellChange | None:
    """What became of a cell. Another error counts only for a trigger that both versions have: one in `shared`."""
    before, after = rows_in(old.table, state, trigger), rows_in(new.table, state, trigger)
    errors = _error(old, state, trigger, before), _error(new, state, trigger, after)
    if before or after:
        fate = _fate(before, after)
    else:
        is_other = trigger in shared and None not in errors and errors[0] != errors[1]
        fate = CellFate.OTHER_ERROR if is_other else None
    return CellChange(fate, state, trigger, before, after, *errors) if fate is not None else None


def _fate(before: tuple[Row, ...], after: tuple[Row, ...]) -> CellFate | None:
    if not after:
        return CellFate.REFUSED
    if not before:
        return CellFate.ALLOWED
    for fate, name in ((CellFate.ELSEWHERE, "target"), (CellFate.GUARDED, "guard"), (CellFate.EFFECT, "effect")):
        if [getattr(row, name) for row in before] != [getattr(row, name) for row in after]:
            return fate
    return None


def _error(data: TableData, state: str, trigger: str, rows: tuple[Row, ...]) -> str | None:
    """What a refusal raises. None if the cell has rows, or the version has no such state or no words."""
    if rows or data.words is None or state not in data.table.states:
        return None
    return data.words.refusal(state, trigger)
