"""Which rows of a table were added, removed and changed. A changed row is paired with the row that it was."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from authstate.engine.machines.table import Row

FIELDS = ("trigger", "sources", "target", "guard", "effect", "meaning")


class RowFate(StrEnum):
    """What became of a row."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class RowChange(msgspec.Struct, frozen=True):
    """One row that is not the same in both versions."""

    fate: RowFate
    old: Row | None
    new: Row | None
    fields: tuple[str, ...] = ()
    """Of a changed row: what differs, in the order of `FIELDS`."""


def row_changes(old: Sequence[Row], new: Sequence[Row]) -> tuple[RowChange, ...]:
    """Return what differs between the rows of two versions, in the order of the new rows, then those that are gone."""
    was = _matches(old, new)
    found: list[RowChange] = []
    for place, row in enumerate(new):
        if place not in was:
            found.append(RowChange(RowFate.ADDED, None, row))
        elif old[was[place]] != row:
            found.append(RowChange(RowFate.CHANGED, old[was[place]], row, _fields(old[was[place]], row)))
    return (
        *found,
        *(RowChange(RowFate.REMOVED, row, None) for place, row in enumerate(old) if place not in was.values()),
    )


def rows_changed_places(old: Sequence[Row], new: Sequence[Row]) -> bool:
    """Whether the rows that both versions have, changed ones included, are in another order."""
    was = _matches(old, new)
    order = [was[place] for place in sorted(was)]
    return order != sorted(order)


def _matches(old: Sequence[Row], new: Sequence[Row]) -> dict[int, int]:
    """The place of each new row that was there before, and its old place: equal rows, then the most similar ones."""
    found: dict[int, int] = {}
    for place, row in enumerate(new):
        same = (earlier for earlier, other in enumerate(old) if other == row and earlier not in found.values())
        if (earlier := next(same, None)) is not None:
            found[place] = earlier
    come = [place for place in range(len(new)) if place not in found]
    gone = [earlier for earlier in range(len(old)) if earlier not in found.values()]
    likely = sorted((-_similarity(old[earlier], new[place]), place, earlier) for place in come for earlier in gone)
    for similarity, place, earlier in likely:
        if similarity and place not in found and earlier not in found.values():
            found[place] = earlier
    return found


def _similarity(old: Row, new: Row) -> float:
    """How much one row looks like another, from 0 (another row) to 6 (the same)."""
    if old.trigger != new.trigger and old.meaning != new.meaning:
        return 0.0
    sources = set(old.sources) | set(new.sources)
    shared = len(set(old.sources) & set(new.sources)) / len(sources) if sources else 1.0
    if shared == 0 and old.target != new.target and old.meaning != new.meaning:
        return 0.0
    others = ("trigger", "target", "guard", "effect", "meaning")
    return shared + sum(bool(getattr(old, name) == getattr(new, name)) for name in others)


def _fields(old: Row, new: Row) -> tuple[str, ...]:
    return tuple(name for name in FIELDS if getattr(old, name) != getattr(new, name))
