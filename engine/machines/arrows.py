"""The rows of a table as the arrows of a picture: what leads from every state is drawn once.

A row that leads from every state, or from every state but few, becomes one arrow from "any state". A row that leads
back to its own source becomes a loop there. Rows between the same states share an arrow.
"""

import msgspec

from authstate.engine.machines.table import Row, Table

_FEWEST = 3
"""From fewer other states than this, each state has a line of its own."""


class EveryArrow(msgspec.Struct, frozen=True):
    """One arrow that stands for those from every state, but for a few, to `target`."""

    target: str
    exceptions: tuple[str, ...]
    """The states other than the target that it does not lead from."""
    is_loop: bool
    """Whether the target is one of the states that it leads from."""
    rows: tuple[Row, ...]

    @property
    def source(self) -> str:
        """Where it leads from, in words."""
        every = "any state" if self.is_loop else "any other state"
        return f"{every} except {', '.join(self.exceptions)}" if self.exceptions else every


class Arrow(msgspec.Struct, frozen=True):
    """An arrow from one or several states to another one."""

    sources: tuple[str, ...]
    target: str
    rows: tuple[Row, ...]


class Arrows(msgspec.Struct, frozen=True):
    """A whole table as arrows, in the order of its rows."""

    every: tuple[EveryArrow, ...]
    single: tuple[Arrow, ...]
    loops: tuple[Arrow, ...]
    """From a state to itself."""


def arrows_of(table: Table) -> Arrows:
    """Return the arrows of a table. Each pair of a row and one of its sources is in exactly one of them."""
    every: dict[tuple[str, tuple[str, ...], bool], list[Row]] = {}
    single: dict[tuple[tuple[str, ...], str], list[Row]] = {}
    loops: dict[str, list[Row]] = {}
    for row in table.rows:
        others = tuple(state for state in table.states if state in row.sources and state != row.target)
        is_loop = row.target in row.sources
        missing = tuple(state for state in table.states if state not in (*row.sources, row.target))
        if len(others) >= _FEWEST and len(missing) <= len(others) // 3:
            every.setdefault((row.target, missing, is_loop), []).append(row)
            continue
        if others:
            single.setdefault((others, row.target), []).append(row)
        if is_loop:
            loops.setdefault(row.target, []).append(row)
    return Arrows(
        tuple(EveryArrow(target, missing, loop, tuple(rows)) for (target, missing, loop), rows in every.items()),
        tuple(Arrow(sources, target, tuple(rows)) for (sources, target), rows in single.items()),
        tuple(Arrow((state,), state, tuple(rows)) for state, rows in loops.items()),
    )
