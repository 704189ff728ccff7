"""The difference of a table as a Mermaid flowchart: green is new, red is gone, amber is changed, grey stays.

The colours are repeated in words and line styles, for who cannot see them. A flowchart, because the lines of a Mermaid
state diagram cannot have colours.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from authstate.adapters.tables.report_style import one_line
from authstate.adapters.tables.table_diff import TableDiff
from authstate.engine.machines.table import Row, Table


class Fate(StrEnum):
    """What became of an arrow or a state."""

    SAME = ""
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


_LINES = {
    Fate.SAME: "stroke:#8c959f,color:#59636e",
    Fate.ADDED: "stroke:#1a7f37,stroke-width:3px,color:#1a7f37",
    Fate.REMOVED: "stroke:#d1242f,stroke-width:3px,stroke-dasharray:6 4,color:#d1242f",
    Fate.CHANGED: "stroke:#bc4c00,stroke-width:3px,color:#bc4c00",
}
_STATES = {
    Fate.SAME: "fill:#f6f8fa,stroke:#8c959f,color:#1f2328",
    Fate.ADDED: "fill:#dafbe1,stroke:#1a7f37,stroke-width:3px,color:#1f2328",
    Fate.REMOVED: "fill:#ffebe9,stroke:#d1242f,stroke-width:3px,stroke-dasharray:6 4,color:#1f2328",
}


class Arrow(msgspec.Struct, frozen=True):
    """One arrow: from a state, or from every state, to another one."""

    source: str | None
    """None: from every state."""
    target: str
    fate: Fate
    label: str


def picture(diff: TableDiff) -> str:
    """Return a Mermaid flowchart of a table that is not the same. Empty if no arrow and no state differs."""
    old, new = (data.table if data else None for data in (diff.old, diff.new))
    states = _states(new, old)
    fates = {state: _fate(state, old, new) for state in states}
    names = {state: f"s{number}" for number, state in enumerate(states)}
    arrows = _together(_arrows(old, new))
    lines = [f'    {names[state]}["{_text(state)}{_suffix(fates[state])}"]' for state in states]
    lines += ['    every(["every state"])'] if any(arrow.source is None for arrow in arrows) else []
    lines += ["    start((( )))"]
    links: list[Fate] = []
    for state, fate in _starts(old, new):
        lines.append(f"    start -->{f'|{fate}|' if fate else ''} {names[state]}")
        links.append(fate)
    for arrow in arrows:
        source = "every" if arrow.source is None else names[arrow.source]
        lines.append(f'    {source} -->|"{arrow.label}"| {names[arrow.target]}')
        links.append(arrow.fate)
    if not any((*links, *fates.values())):
        return ""
    styles = _styles({names[state]: fate for state, fate in fates.items()}, links)
    return "\n".join(("flowchart LR", *lines, *styles)) + "\n"


def _states(*tables: Table | None) -> list[str]:
    """Every state once, also one that only a row names."""
    there = [table for table in tables if table]
    declared = [state for table in there for state in (*table.states, table.initial)]
    used = [state for table in there for row in table.rows for state in (*row.sources, row.target)]
    return list(dict.fromkeys((*declared, *used)))


def _arrows(old: Table | None, new: Table | None) -> Iterator[Arrow]:
    """Every arrow of both versions. An arrow is changed if its row is, and it leads where it led."""
    before, after = _ways(old), _ways(new)
    shared = _from_every_state([table for table in (old, new) if table])
    for row in shared:
        fate = Fate.ADDED if old is None else Fate.REMOVED if new is None else Fate.SAME
        yield Arrow(None, row.target, fate, _label(row, fate))
    for way, row in after.items():
        if row not in shared:
            fate = Fate.ADDED if way not in before else Fate.SAME if _says(before[way]) == _says(row) else Fate.CHANGED
            yield Arrow(way[0], row.target, fate, _label(row, fate))
    for way, row in before.items():
        if row not in shared and way not in after:
            yield Arrow(way[0], row.target, Fate.REMOVED, _label(row, Fate.REMOVED))


def _from_every_state(tables: list[Table]) -> list[Row]:
    """The rows that lead from every state in all versions. Each is drawn once, which keeps the picture legible."""
    return [
        row
        for row in tables[-1].rows
        if all(
            row in table.rows and len(table.states) > 2 and set(row.sources) == set(table.states) for table in tables
        )
    ]


def _ways(table: Table | None) -> dict[tuple[str, str, str, int], Row]:
    """Each way from a state to another one by a trigger. A number tells equal ways apart."""
    found: dict[tuple[str, str, str, int], Row] = {}
    for row in table.rows if table else ():
        for source in dict.fromkeys(row.sources):
            number = 0
            while (source, row.trigger, row.target, number) in found:
                number += 1
            found[source, row.trigger, row.target, number] = row
    return found


def _says(row: Row) -> tuple[str, str, str]:
    return row.guard, row.effect, row.meaning


def _together(arrows: Iterator[Arrow]) -> list[Arrow]:
    """Arrows of the same fate between the same states as one. Those that stay come first: they hide no other then."""
    labels: dict[tuple[str | None, str, Fate], list[str]] = {}
    for arrow in arrows:
        labels.setdefault((arrow.source, arrow.target, arrow.fate), []).append(arrow.label)
    together = [Arrow(*ends, "<br>".join(dict.fromkeys(found))) for ends, found in labels.items()]
    return sorted(together, key=lambda arrow: arrow.fate is not Fate.SAME)


def _starts(old: Table | None, new: Table | None) -> Iterator[tuple[str, Fate]]:
    initial = new.initial if new else None
    was = old.initial if old else None
    if initial is not None:
        yield initial, Fate.SAME if was in (initial, None) else Fate.ADDED
    if was is not None and was != initial:
        yield was, Fate.SAME if initial is None else Fate.REMOVED


def _styles(states: Mapping[str, Fate], links: Sequence[Fate]) -> Iterator[str]:
    """The colours of the nodes of states, and of the links by their numbers."""
    for fate, style in _STATES.items():
        if found := [name for name, one in states.items() if one is fate]:
            kind = fate or "same"
            yield f"    classDef {kind} {style}"
            yield f"    class {','.join(found)} {kind}"
    for fate, style in _LINES.items():
        if numbers := [str(number) for number, one in enumerate(links) if one is fate]:
            yield f"    linkStyle {','.join(numbers)} {style}"


def _fate(state: str, old: Table | None, new: Table | None) -> Fate:
    is_old, is_new = (table is not None and state in table.states for table in (old, new))
    return Fate.ADDED if is_new and not is_old else Fate.REMOVED if is_old and not is_new else Fate.SAME


def _label(row: Row, fate: Fate) -> str:
    guard = f" [{_text(row.guard)}]" if row.guard else ""
    return f"{_text(row.trigger)}{guard}{_suffix(fate)}"


def _suffix(fate: Fate) -> str:
    return f" ({fate})" if fate is not Fate.SAME else ""


def _text(name: str) -> str:
    """A name in a label, where Mermaid reads no markup: special characters are entities."""
    return "".join(letter if letter.isalnum() or letter in " _-" else f"#{ord(letter)};" for letter in one_line(name))
