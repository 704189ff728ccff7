"""The parts of the page: one state of a table, with what can happen there and what is refused, and the whole table."""

from collections.abc import Iterator, Mapping, Sequence

from authstate.adapters.tables.cells import Cell, cells_of
from authstate.adapters.tables.held_by import KINDS, HeldCell
from authstate.adapters.tables.markup import attributes, clause, code, codes, place, prose, text
from authstate.engine.machines.table import Row, Table
from authstate.engine.machines.words import Words

_MOST_TESTS = 3
"""Of each kind, no more tests of a cell are named."""

HeldOutcomes = Mapping[tuple[str, str, str], HeldCell]
"""The tests by state, trigger and outcome."""


class PartsOfTable:
    """Writes the parts of one table."""

    def __init__(self, table: Table, words: Words, held: Sequence[HeldCell]) -> None:
        self.table = table
        self.words = words
        self.cells = tuple(cells_of(table, words))
        self.held: HeldOutcomes = {(one.state, one.trigger, one.outcome): one for one in held}

    def state(self, state: str) -> Iterator[str]:
        """Yield the lines of one state."""
        table, name = self.table, place(self.table.name, state)
        cells = [cell for cell in self.cells if cell.state == state]
        index = table.states.index(state)
        yield f'<article id="{name}" data-state="{index}"{attributes(data_name=state)} aria-labelledby="{name}~name">'
        yield f'<h3 id="{name}~name" tabindex="-1">{code(state)}{self._badges(state)}</h3>'
        yield f"<p>{prose(self.words.states.get(state, ''))}</p>"
        if limit := self.words.timeouts.get(state):
            yield f"<p><strong>Time limit:</strong> {clause(limit)}</p>"
        happening = [cell for cell in cells if cell.row]
        yield "<h4>What can happen</h4>"
        if happening:
            yield '<ul class="cells">'
            for cell in happening:
                yield from self._happening(cell)
            yield "</ul>"
        else:
            yield "<p>Nothing: this state is final.</p>"
        refused = [cell for cell in cells if not cell.row]
        if refused:
            yield "<h4>What is refused</h4>"
            yield '<ul class="cells refusals">'
            for cell in refused:
                yield from self._refused(cell)
            yield "</ul>"
        yield "</article>"

    def rows(self) -> Iterator[str]:
        """Yield the lines of a table with every row."""
        head = "".join(
            f'<th scope="col">{one}</th>' for one in ("Trigger", "From", "Guard", "To", "Effect", "Meaning", "Events")
        )
        yield f"<table><thead><tr>{head}</tr></thead><tbody>"
        for row in self.table.rows:
            is_every = set(row.sources) == set(self.table.states)
            sources = "every state" if is_every else codes(row.sources, ",<br>")
            events = codes(self.words.events.get(row.trigger, ()), ",<br>")
            yield (
                f'<tr><th scope="row">{code(row.trigger)}</th><td>{sources}</td>'
                f"<td>{code(row.guard) if row.guard else ''}</td><td>{code(row.target)}</td>"
                f'<td>{code(row.effect) if row.effect else ""}</td><td class="meaning">{prose(row.meaning)}</td>'
                f"<td>{events}</td></tr>"
            )
        yield "</tbody></table>"

    def matrix(self) -> Iterator[str]:
        """Yield the lines of a table with every cell: a line for each trigger, a column for each state."""
        head = "".join(f'<th scope="col">{self._link(state)}</th>' for state in self.table.states)
        yield f'<table><thead><tr><th scope="col">Trigger</th>{head}</tr></thead><tbody>'
        for trigger in self.table.triggers:
            cells = "".join(_matrix_cell(cell) for cell in self.cells if cell.trigger == trigger)
            yield f'<tr><th scope="row">{code(trigger)}</th>{cells}</tr>'
        yield "</tbody></table>"

    def _badges(self, state: str) -> str:
        badges = [("initial", state == self.table.initial), ("final", state in self.table.finals)]
        return "".join(f' <span class="badge">{name}</span>' for name, is_so in badges if is_so)

    def _link(self, state: str) -> str:
        return f'<a href="#{place(self.table.name, state)}">{code(state)}</a>'

    def _happening(self, cell: Cell) -> Iterator[str]:
        row = cell.row
        assert row is not None
        data = attributes(
            data_trigger=cell.trigger,
            data_row=self.table.rows.index(row),
            data_target=self.table.states.index(row.target),
            data_guard=row.guard or None,
            data_errors=" or ".join(cell.errors) or None,
            data_events=", ".join(self.words.events.get(cell.trigger, ())) or None,
        )
        arrow = "stays in" if row.target == cell.state else "leads to"
        yield f'<li{data}><p class="move">{code(cell.trigger)} {arrow} {self._link(row.target)}</p>'
        yield "<dl>"
        yield _detail("Meaning", f"{prose(row.meaning)}{self._about(cell.trigger)}")
        yield from self._details(cell, row)
        yield "</dl></li>"

    def _details(self, cell: Cell, row: Row) -> Iterator[str]:
        if row.guard:
            yield _detail("Guard", f"{code(row.guard)}: {prose(self.words.guards.get(row.guard, ''))}")
            errors = codes(cell.errors, " or ") or "an error"
            yield _detail("If it refuses", f"{errors}; the state stays {code(cell.state)}")
        if row.effect:
            yield _detail("Effect", f"{code(row.effect)}: {prose(self.words.effects.get(row.effect, ''))}")
        if events := self.words.events.get(cell.trigger, ()):
            yield _detail("Events", codes(events))
        yield self._tests(cell, "row", "Tests")
        if row.guard:
            yield self._tests(cell, "refused by guard", "Refusal tests")

    def _refused(self, cell: Cell) -> Iterator[str]:
        errors = " or ".join(cell.errors)
        data = attributes(data_trigger=cell.trigger, data_errors=errors)
        outcome = "is ignored" if cell.is_ignored else f"raises {codes(cell.errors, ' or ')}"
        tests = self._tests(cell, "missing", "Tests")
        listed = f"<dl>{tests}</dl>" if tests else ""
        yield f'<li{data}><p class="move">{code(cell.trigger)} {outcome}</p>{listed}</li>'

    def _tests(self, cell: Cell, outcome: str, title: str) -> str:
        """The tests that hold a cell, or nothing if none are recorded for the table."""
        if not self.held:
            return ""
        held = self.held.get((cell.state, cell.trigger, outcome))
        found = {kind: held.held_by.get(kind, ()) if held else () for kind in KINDS}
        if not any(found.values()):
            return _detail(title, '<strong class="alone">none</strong>')
        parts = [f"{len(names)} {kind}" for kind, names in found.items() if names]
        alone = ' <strong class="alone">only one kind</strong>' if len(parts) == 1 else ""
        names = "".join(f"<li>{one}</li>" for kind in KINDS for one in _named(kind, found[kind]))
        return _detail(title, f"<details><summary>{', '.join(parts)}{alone}</summary><ul>{names}</ul></details>")

    def _about(self, trigger: str) -> str:
        more = self.words.triggers.get(trigger)
        return f". {prose(more)}" if more else ""


def _named(kind: str, names: Sequence[str]) -> Iterator[str]:
    yield from map(code, names[:_MOST_TESTS])
    if len(names) > _MOST_TESTS:
        yield text(f"and {len(names) - _MOST_TESTS} more {kind} tests")


def _detail(title: str, what: str) -> str:
    return f"<dt>{title}</dt><dd>{what}</dd>"


def _matrix_cell(cell: Cell) -> str:
    if cell.row:
        guard = f" if {code(cell.row.guard)}" if cell.row.guard else ""
        return f"<td>→ {code(cell.row.target)}{guard}</td>"
    return f'<td class="no">{codes(cell.errors, " or ") or "ignored"}</td>'
