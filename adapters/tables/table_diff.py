"""What differs between two versions of the state tables: rows, states, words, and what can happen because of them."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from authstate.adapters.tables.cell_diff import CellChange, cell_changes, end_states, reached
from authstate.adapters.tables.row_diff import RowChange, row_changes, rows_changed_places
from authstate.adapters.tables.table_data import TableData
from authstate.adapters.tables.word_diff import WordChange, word_changes


class TableFate(StrEnum):
    """What became of a table."""

    SAME = "same"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


class Change(msgspec.Struct, frozen=True):
    """One value before and after."""

    old: str
    new: str


class TableDiff(msgspec.Struct, frozen=True):
    """What differs in one table."""

    name: str
    """Of the new table, or of the old one if it was removed."""
    fate: TableFate
    old: TableData | None
    new: TableData | None
    renamed: Change | None = None
    """The name of the table. The same states and triggers tell that it is the same table."""
    title: Change | None = None
    initial: Change | None = None
    states_added: tuple[str, ...] = ()
    states_removed: tuple[str, ...] = ()
    states_moved: bool = False
    """The states that stayed have another order."""
    rows: tuple[RowChange, ...] = ()
    rows_moved: bool = False
    """The rows that stayed have another order."""
    words: tuple[WordChange, ...] = ()
    words_are_new: bool = False
    """Only the new version has words, so they are not compared."""
    words_are_gone: bool = False
    """Only the old version has words."""
    cells: tuple[CellChange, ...] = ()
    """What can happen now and could not before, and the reverse."""
    no_longer_reached: tuple[str, ...] = ()
    """States of both versions that nothing leads to any more, from the initial state."""
    newly_reached: tuple[str, ...] = ()
    no_longer_final: tuple[str, ...] = ()
    newly_final: tuple[str, ...] = ()
    """States of both versions that nothing leaves any more."""


class TablesDiff(msgspec.Struct, frozen=True):
    """What differs between two versions of all tables."""

    old: str
    """What the old version is called."""
    new: str
    tables: tuple[TableDiff, ...]
    """Every table of either version, in the order of the new one. Those that are the same are among them."""

    @property
    def changed(self) -> tuple[TableDiff, ...]:
        """The tables that are not the same."""
        return tuple(table for table in self.tables if table.fate is not TableFate.SAME)


def compare_tables(
    old_name: str, old: Mapping[str, TableData], new_name: str, new: Mapping[str, TableData]
) -> TablesDiff:
    """Compare two versions of the tables.

    Args:
        old_name: what the old version is called in the report, for example the name of a revision.
        old: its tables by name.
        new_name: the same for the new version.
        new: its tables by name.
    """
    renamed = _renamed(old, new)
    found = [_one(name, old.get(renamed.get(name, name)), table) for name, table in new.items()]
    gone = [name for name in old if name not in new and name not in renamed.values()]
    found += [_one(name, old[name], None) for name in gone]
    return TablesDiff(old_name, new_name, tuple(found))


def _renamed(old: Mapping[str, TableData], new: Mapping[str, TableData]) -> dict[str, str]:
    """The new name of each table that has another one, and its old name."""
    gone = {name: data for name, data in old.items() if name not in new}
    found: dict[str, str] = {}
    for name, data in new.items():
        if name in old:
            continue
        for before, other in gone.items():
            if before not in found.values() and _is_same_machine(data, other):
                found[name] = before
                break
    return found


def _is_same_machine(one: TableData, other: TableData) -> bool:
    return set(one.table.states) == set(other.table.states) and set(one.table.triggers) == set(other.table.triggers)


def _one(name: str, old: TableData | None, new: TableData | None) -> TableDiff:
    if new is None:
        return TableDiff(name, TableFate.REMOVED, old, None)
    if old is None:
        return TableDiff(name, TableFate.ADDED, None, new)
    if (old.table, old.words) == (new.table, new.words):
        return TableDiff(name, TableFate.SAME, old, new)
    before, after = old.table, new.table
    both = tuple(state for state in before.states if state in after.states)
    could, can = reached(before), reached(after)
    ended, ends = end_states(before), end_states(after)
    return TableDiff(
        name,
        TableFate.CHANGED,
        old,
        new,
        renamed=_change(before.name, after.name),
        title=_change(before.title, after.title),
        initial=_change(before.initial, after.initial),
        states_added=tuple(state for state in after.states if state not in before.states),
        states_removed=tuple(state for state in before.states if state not in after.states),
        states_moved=both != tuple(state for state in after.states if state in before.states),
        rows=row_changes(before.rows, after.rows),
        rows_moved=rows_changed_places(before.rows, after.rows),
        words=word_changes(old, new),
        words_are_new=old.words is None and new.words is not None,
        words_are_gone=old.words is not None and new.words is None,
        cells=cell_changes(old, new),
        no_longer_reached=tuple(state for state in both if state in could - can),
        newly_reached=tuple(state for state in both if state in can - could),
        no_longer_final=tuple(state for state in both if state in ended - ends),
        newly_final=tuple(state for state in both if state in ends - ended),
    )


def _change(old: str, new: str) -> Change | None:
    return None if old == new else Change(old, new)
