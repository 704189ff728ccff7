"""What the names in the difference of a table mean, so that a reviewer needs no other page."""

from collections.abc import Iterator

from authstate.adapters.tables.report_style import ReportStyle
from authstate.adapters.tables.table_diff import TableDiff
from authstate.engine.machines.table import Row
from authstate.engine.machines.words import Words


def glossary(diff: TableDiff, style: ReportStyle) -> Iterator[str]:
    """Return a sentence for each state, guard and effect that was changed or is near a change.

    The words are those of the new version, or of the old one for a name that is gone. Without words, there is nothing.
    """
    rows, code, prose = _rows(diff), style.code, style.prose
    for state in dict.fromkeys(_states(diff, rows)):
        if text := _word(diff, "states", state):
            limit = _word(diff, "timeouts", state)
            yield f"State {code(state)}: {prose(text)}" + (f" Limit: {prose(limit)}." if limit else "")
    for guard in _names(rows, "guard"):
        if text := _word(diff, "guards", guard):
            errors = _errors(diff, guard)
            yield f"Guard {code(guard)}: {prose(text)}." + (
                f" It refuses with {style.codes(errors, 'or')}." if errors else ""
            )
    for effect in _names(rows, "effect"):
        if text := _word(diff, "effects", effect):
            yield f"Effect {code(effect)}: {prose(text)}."
    for trigger in _names(rows, "trigger"):
        if text := _word(diff, "triggers", trigger):
            yield f"Trigger {code(trigger)}: {prose(text)}"
    triggers_of: dict[tuple[str, ...], list[str]] = {}
    for trigger in _names(rows, "trigger"):
        triggers_of.setdefault(_events(diff, trigger), []).append(trigger)
    for events, triggers in triggers_of.items():
        if events:
            yield f"Events: {style.codes(events)} always {_follow(events)} {style.codes(triggers, 'or')}."


def _follow(events: tuple[str, ...]) -> str:
    return "follows" if len(events) == 1 else "follow"


def _names(rows: list[Row], field: str) -> list[str]:
    """Each guard, effect or trigger of the rows once."""
    return [name for name in dict.fromkeys(str(getattr(row, field)) for row in rows) if name]


def _rows(diff: TableDiff) -> list[Row]:
    """The rows that were changed, added or removed, and those of the changed cells."""
    found = [row for change in diff.rows for row in (change.new, change.old) if row is not None]
    return found + [row for cell in diff.cells for row in (*cell.new, *cell.old)]


def _states(diff: TableDiff, rows: list[Row]) -> Iterator[str]:
    """The states that these rows connect, and those that were changed themselves, in the order of the table."""
    near = {state for row in rows for state in (*row.sources, row.target)}
    near |= {*diff.states_added, *diff.states_removed, *(cell.state for cell in diff.cells)}
    if diff.initial:
        near |= {diff.initial.old, diff.initial.new}
    for data in (diff.new, diff.old):
        yield from (state for state in (data.table.states if data else ()) if state in near)


def _word(diff: TableDiff, kind: str, name: str) -> str:
    """What one kind of words says about a name, in the new version or else in the old one. Empty if neither does."""
    return next((found for words in _both(diff) if (found := getattr(words, kind).get(name))), "")


def _errors(diff: TableDiff, guard: str) -> tuple[str, ...]:
    return next((found for words in _both(diff) if (found := words.refusals.get(guard))), ())


def _events(diff: TableDiff, trigger: str) -> tuple[str, ...]:
    return next((found for words in _both(diff) if (found := words.events.get(trigger))), ())


def _both(diff: TableDiff) -> list[Words]:
    """The words of the new version and of the old one, as far as there are any."""
    return [data.words for data in (diff.new, diff.old) if data is not None and data.words is not None]
