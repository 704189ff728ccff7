"""The difference of a table in sentences for a reviewer: what was changed, what follows, and what the names mean."""

from collections.abc import Iterator, Sequence

import msgspec

from authstate.adapters.tables.cell_diff import CellChange, CellFate
from authstate.adapters.tables.report_style import ReportStyle, listed
from authstate.adapters.tables.row_diff import RowChange
from authstate.adapters.tables.table_diff import TableDiff, TableFate
from authstate.engine.machines.table import Row, Table
from authstate.engine.machines.words import IGNORED

_ROW_KINDS = {
    "trigger": "another trigger",
    "sources": "other sources",
    "target": "retargeted",
    "guard": "re-guarded",
    "effect": "another effect",
    "meaning": "reworded",
}


class Sentence(msgspec.Struct, frozen=True):
    """One change, and what belongs to it."""

    text: str
    details: tuple[str, ...] = ()


class DiffSentences:
    """Writes about the difference of one table.

    Args:
        diff: the table, which was changed, added or removed.
        style: how names and prose are written.
    """

    def __init__(self, diff: TableDiff, style: ReportStyle) -> None:
        self._diff = diff
        self._style = style

    def summary(self) -> str:
        """How much was changed, in one line without a full stop."""
        diff = self._diff
        if diff.fate is not TableFate.CHANGED:
            data = diff.new or diff.old
            assert data is not None
            size = f"{counted(len(data.table.states), 'state')} and {counted(len(data.table.rows), 'row')}"
            return f"table {diff.fate}, with {size}"
        parts = [counted(number, "row", kind) for kind, number in _row_counts(diff.rows).items()]
        for states, kind in ((diff.states_added, "added"), (diff.states_removed, "removed")):
            parts += [counted(len(states), "state", kind)] if states else []
        parts += [part for part, is_so in (("another initial state", diff.initial), ("renamed", diff.renamed)) if is_so]
        parts += ["another title"] if diff.title else []
        parts += [
            part for part, is_so in (("states moved", diff.states_moved), ("rows moved", diff.rows_moved)) if is_so
        ]
        parts += [counted(len(diff.words), "name", "explained differently")] if diff.words else []
        errors = sum(cell.fate is CellFate.OTHER_ERROR for cell in diff.cells)
        parts += [counted(errors, "cell", "refused with another error")] if errors else []
        parts += ["words added"] if diff.words_are_new else ["words removed"] if diff.words_are_gone else []
        return ", ".join(parts)

    def changes(self) -> Iterator[Sentence]:
        """What was changed in the table and its words."""
        diff, code, prose = self._diff, self._style.code, self._style.prose
        if diff.renamed:
            yield Sentence(f"The table is called {code(diff.renamed.new)}. Before: {code(diff.renamed.old)}.")
        if diff.title:
            yield Sentence(f"Its title is “{prose(diff.title.new)}”. Before: “{prose(diff.title.old)}”.")
        if diff.initial:
            yield Sentence(f"It starts in {code(diff.initial.new)}. Before: in {code(diff.initial.old)}.")
        for state in diff.states_added:
            yield Sentence(f"State added: {code(state)}.")
        for state in diff.states_removed:
            yield Sentence(f"State removed: {code(state)}.")
        if diff.states_moved:
            yield Sentence("The states have another order, which changes only the diagrams.")
        for change in diff.rows:
            yield self._row_change(change)
        if diff.rows_moved:
            yield Sentence("The rows have another order: if two rows fit, the first one whose guard agrees decides.")
        yield from self._word_changes()

    def rows(self) -> Iterator[Sentence]:
        """The rows of a table that was added or removed."""
        data = self._diff.new or self._diff.old
        assert data is not None
        for row in data.table.rows:
            yield Sentence(f"{self._row(row, data.table)}. {self._meaning(row)}")

    def consequences(self) -> Iterator[Sentence]:
        """What can happen now and could not before, and the reverse."""
        diff, codes = self._diff, self._style.codes
        for fate in CellFate:
            for cells in _alike(cell for cell in diff.cells if cell.fate is fate):
                yield self._cells(fate, cells)
        for states, what in (
            (diff.no_longer_reached, "can no longer be reached"),
            (diff.newly_reached, "can be reached now, and could not before"),
            (diff.newly_final, "can no longer be left"),
            (diff.no_longer_final, "can be left now, and could not before"),
        ):
            if states:
                yield Sentence(f"{codes(states)} {what}.")

    def _row_change(self, change: RowChange) -> Sentence:
        old, new = self._diff.old, self._diff.new
        assert old is not None and new is not None
        if change.new is None:
            assert change.old is not None
            return Sentence(f"Row removed: {self._row(change.old, old.table)}.", (self._meaning(change.old),))
        if change.old is None:
            return Sentence(f"Row added: {self._row(change.new, new.table)}.", (self._meaning(change.new),))
        kinds = listed([_ROW_KINDS[name] for name in change.fields])
        text = f"Row changed ({kinds}): {self._row(change.new, new.table)}."
        details = [self._field(name, change.old, change.new, old.table) for name in change.fields]
        return Sentence(text, (*details, *(() if "meaning" in change.fields else (self._meaning(change.new),))))

    def _field(self, name: str, old: Row, new: Row, before: Table) -> str:
        code = self._style.code
        if name == "sources":
            return self._sources(old, new, before)
        if name == "meaning":
            return f"{self._meaning(new)} Before: “{self._style.prose(old.meaning)}”."
        was, now = getattr(old, name), getattr(new, name)
        label = "It leads to" if name == "target" else f"Its {name} is"
        return f"{label} {code(now) if now else 'none'}. Before: {code(was) if was else 'none'}."

    def _sources(self, old: Row, new: Row, before: Table) -> str:
        come = [state for state in new.sources if state not in old.sources]
        gone = [state for state in old.sources if state not in new.sources]
        parts = [f"no longer in {self._style.codes(gone)}"] if gone else []
        parts += [f"now also in {self._style.codes(come)}"] if come else []
        what = f"It is {listed(parts)}" if parts else "Its states have another order"
        return f"{what}. Before: {self._where(old, before)}."

    def _row(self, row: Row, table: Table) -> str:
        """What a row says, without its meaning."""
        return f"{self._style.code(row.trigger)} {self._where(row, table)} {self._outcome((row,))}"

    def _where(self, row: Row, table: Table) -> str:
        return self._in(row.sources, table)

    def _in(self, states: Sequence[str], table: Table) -> str:
        if len(states) > 1 and set(states) == set(table.states):
            return "in every state"
        return f"in {self._style.codes(states)}" if states else "in no state"

    def _outcome(self, rows: Sequence[Row], verb: str = "leads") -> str:
        """What happens if a trigger finds these rows: the first one whose guard agrees decides."""
        code = self._style.code
        parts = []
        for row in rows:
            part = f"{verb} to {code(row.target)}"
            part += f" if {code(row.guard)} {'agrees' if verb == 'leads' else 'agreed'}" if row.guard else ""
            part += f", with the effect {code(row.effect)}" if row.effect else ""
            parts.append(part)
        return "; otherwise it ".join(parts)

    def _meaning(self, row: Row) -> str:
        return f"Meaning: {self._style.prose(row.meaning)}."

    def _cells(self, fate: CellFate, cells: Sequence[CellChange]) -> Sentence:
        first = cells[0]
        states = [cell.state for cell in cells]
        assert self._diff.new is not None
        where = self._in(states, self._diff.new.table)
        now = self._outcome(first.new) if first.new else self._refused("is", first.new_error)
        was = self._outcome(first.old, "led") if first.old else self._refused("was", first.old_error)
        text = f"{fate.capitalize()}: {self._style.code(first.trigger)} {where} {now}."
        if fate is CellFate.ALLOWED and first.state in self._diff.states_added:
            return Sentence(f"{text} Before, there was no such state.")
        return Sentence(f"{text} Before, it {was}.")

    def _refused(self, verb: str, error: str | None) -> str:
        if error == IGNORED:
            return f"{verb} ignored: no error is raised, and nothing happens"
        return f"{verb} refused with {self._style.code(error)}" if error else f"{verb} refused"

    def _word_changes(self) -> Iterator[Sentence]:
        diff, code, prose = self._diff, self._style.code, self._style.prose
        for change in diff.words:
            is_names = change.about in ("errors of the guard", "events of")
            now, was = (
                self._style.codes(text.split(", ")) if text and is_names else f"“{prose(text)}”" if text else "nothing"
                for text in (change.new, change.old)
            )
            yield Sentence(f"Words about the {change.about} {code(change.name)}: {now}. Before: {was}.")
        if diff.words_are_new:
            yield Sentence("The table has words now. The old version has none, so words and errors are not compared.")
        if diff.words_are_gone:
            yield Sentence("The table has no words any more, so words and errors are not compared.")


def counted(number: int, noun: str, what: str = "") -> str:
    """A number and a noun: `1 row removed`, `2 rows removed`."""
    return f"{number} {noun}{'' if number == 1 else 's'}{' ' if what else ''}{what}"


def _row_counts(rows: Sequence[RowChange]) -> dict[str, int]:
    """How many rows were added, removed, retargeted and so on."""
    kinds = [listed([_adjective(name) for name in row.fields]) or str(row.fate) for row in rows]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def _adjective(field: str) -> str:
    kind = _ROW_KINDS[field]
    return f"with {kind}" if kind.startswith(("another", "other")) else kind


def _alike(cells: Iterator[CellChange]) -> list[list[CellChange]]:
    """Cells of one trigger with the same outcomes before and after, together."""
    found: dict[tuple[object, ...], list[CellChange]] = {}
    for cell in cells:
        outcomes = tuple(tuple((row.target, row.guard, row.effect) for row in rows) for rows in (cell.old, cell.new))
        found.setdefault((cell.trigger, outcomes, cell.old_error, cell.new_error), []).append(cell)
    return list(found.values())
