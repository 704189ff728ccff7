"""Which words of a table were changed: what its names mean, what a guard raises, which events follow, and the limits.

Words of a name that only one version has come with the name, and are no change of their own. Which error a refused cell
raises is in the cells.
"""

from collections.abc import Callable, Mapping

import msgspec

from authstate.adapters.tables.table_data import TableData
from authstate.engine.machines.table import Table
from authstate.engine.machines.words import Words


class WordChange(msgspec.Struct, frozen=True):
    """The words about one name that are not the same in both versions."""

    about: str
    """Which words: `state`, `trigger`, `guard`, `effect`, `errors of the guard`, `events of`, `limit of`."""
    name: str
    old: str
    """Empty if there were none."""
    new: str


def word_changes(old: TableData, new: TableData) -> tuple[WordChange, ...]:
    """Return the changed words. None if a version has no words at all."""
    if old.words is None or new.words is None:
        return ()
    found: list[WordChange] = []
    for about, words_of, names_of in _KINDS:
        before, after = words_of(old.words), words_of(new.words)
        names = names_of(old.table) & names_of(new.table)
        for name in dict.fromkeys((*after, *before)):
            was, now = before.get(name, ""), after.get(name, "")
            if was != now and name in names:
                found.append(WordChange(about, name, was, now))
    return tuple(found)


def _joined(names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: ", ".join(found) for name, found in names.items()}


def _states(table: Table) -> set[str]:
    return set(table.states)


def _triggers(table: Table) -> set[str]:
    return set(table.triggers)


def _guards(table: Table) -> set[str]:
    return {row.guard for row in table.rows}


def _effects(table: Table) -> set[str]:
    return {row.effect for row in table.rows}


_KINDS: tuple[tuple[str, Callable[[Words], Mapping[str, str]], Callable[[Table], set[str]]], ...] = (
    ("state", lambda words: words.states, _states),
    ("trigger", lambda words: words.triggers, _triggers),
    ("guard", lambda words: words.guards, _guards),
    ("errors of the guard", lambda words: _joined(words.refusals), _guards),
    ("effect", lambda words: words.effects, _effects),
    ("events of", lambda words: _joined(words.events), _triggers),
    ("limit of", lambda words: words.timeouts, _states),
)
