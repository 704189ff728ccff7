"""Every change of one thing in a state table and its words, and what the difference must name."""

from collections.abc import Iterator
from typing import Any

import msgspec

from authstate.adapters.tables.row_diff import RowChange, RowFate
from authstate.adapters.tables.table_data import TableData
from authstate.adapters.tables.table_diff import Change
from authstate.adapters.tables.word_diff import WordChange
from authstate.engine.machines.table import Row, Table
from authstate.engine.machines.words import IGNORED, Words

OTHER = "quite_another"
"""A name that no table has."""


class Mutant(msgspec.Struct, frozen=True):
    """A table that was changed in one thing."""

    name: str
    data: TableData
    named: dict[str, Any]
    """The fields of the `TableDiff` that name the change. All others but the consequences must be empty."""


def mutants_of(data: TableData) -> Iterator[Mutant]:
    """Return every change of one thing."""
    yield from _row_mutants(data)
    yield from _added_rows(data)
    yield from _state_mutants(data)
    yield from _word_mutants(data)


def _but(data: TableData, **changed: Any) -> TableData:
    return msgspec.structs.replace(data, table=msgspec.structs.replace(data.table, **changed))


def _row_mutants(data: TableData) -> Iterator[Mutant]:
    rows = data.table.rows
    for number, row in enumerate(rows):
        left = rows[:number], rows[number + 1 :]
        removed = RowChange(RowFate.REMOVED, row, None)
        yield Mutant(f"row {number} removed", _but(data, rows=(*left[0], *left[1])), {"rows": (removed,)})
        for field, value in _other_values(row, data.table):
            changed = msgspec.structs.replace(row, **{field: value})
            named = RowChange(RowFate.CHANGED, row, changed, (field,))
            mutated = _but(data, rows=(*left[0], changed, *left[1]))
            yield Mutant(f"row {number} {field} {value}", mutated, {"rows": (named,)})
        if number:
            swapped = (*rows[: number - 1], row, rows[number - 1], *rows[number + 1 :])
            yield Mutant(f"row {number} moved up", _but(data, rows=swapped), {"rows_moved": True})


def _other_values(row: Row, table: Table) -> Iterator[tuple[str, Any]]:
    """Every other value of each field."""
    for state in table.states:
        if state != row.target:
            yield "target", state
        if state in row.sources:
            yield "sources", tuple(source for source in row.sources if source != state)
        else:
            yield "sources", (*row.sources, state)
    for field, names in (
        ("trigger", table.triggers),
        ("guard", ("", *(other.guard for other in table.rows))),
        ("effect", ("", *(other.effect for other in table.rows))),
    ):
        for name in dict.fromkeys((*names, OTHER)):
            if name != getattr(row, field):
                yield field, name
    yield "meaning", "something else"


def _added_rows(data: TableData) -> Iterator[Mutant]:
    """A row for each cell, and for a new trigger from each state to each other one."""
    states = data.table.states
    for trigger in (*data.table.triggers, OTHER):
        for place, source in enumerate(states):
            for target in states if trigger == OTHER else (states[place - 1],):
                row = Row(trigger, (source,), target, "a new row")
                named = {"rows": (RowChange(RowFate.ADDED, None, row),)}
                yield Mutant(f"{trigger} {source} {target}", _but(data, rows=(row, *data.table.rows)), named)


def _state_mutants(data: TableData) -> Iterator[Mutant]:
    table = data.table
    for state in table.states:
        if state != table.initial:
            yield Mutant(f"starts in {state}", _but(data, initial=state), {"initial": Change(table.initial, state)})
        left = tuple(other for other in table.states if other != state)
        yield Mutant(f"state {state} removed", _but(data, states=left), {"states_removed": (state,)})
    yield Mutant("state added", _but(data, states=(*table.states, OTHER)), {"states_added": (OTHER,)})
    yield Mutant("states moved", _but(data, states=table.states[::-1]), {"states_moved": True})
    yield Mutant("title", _but(data, title=OTHER), {"title": Change(table.title, OTHER)})


def _word_mutants(data: TableData) -> Iterator[Mutant]:
    words = data.words
    assert words is not None
    for field, about in (
        *(("states", "state"), ("triggers", "trigger"), ("guards", "guard"), ("effects", "effect")),
        *(("refusals", "errors of the guard"), ("events", "events of"), ("timeouts", "limit of")),
    ):
        for name, text in getattr(words, field).items():
            is_names = isinstance(text, tuple)
            old = ", ".join(text) if is_names else text
            others = {OTHER: (OTHER,) if is_names else OTHER, "": None}
            for new, value in others.items():
                changed = {key: word for key, word in {**getattr(words, field), name: value}.items() if word}
                named = {"words": (WordChange(about, name, old, new),)}
                yield Mutant(f"{field} {name} {new or 'gone'}", _with_words(data, words, field, changed), named)
    for error in {IGNORED, "PoolClosed"} - {words.missing}:
        yield Mutant(f"missing {error}", _with_words(data, words, "missing", error), {})
    for cell in words.missing_in:
        fewer = {other: error for other, error in words.missing_in.items() if other != cell}
        yield Mutant(f"missing in {cell}", _with_words(data, words, "missing_in", fewer), {})
    yield Mutant("no words", msgspec.structs.replace(data, words=None), {"words_are_gone": True})


def _with_words(data: TableData, words: Words, field: str, value: Any) -> TableData:
    return msgspec.structs.replace(data, words=msgspec.structs.replace(words, **{field: value}))
