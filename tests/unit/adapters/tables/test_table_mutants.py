"""Each change of one thing in a table: the difference names it, and nothing else, and what follows from it."""

from collections.abc import Iterator
from itertools import chain, islice, product

import msgspec
import pytest
from support.table_mutants import Mutant, mutants_of

from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.tables.cell_diff import CellFate
from authstate.adapters.tables.diff_report import as_json, as_markdown, as_text
from authstate.adapters.tables.diff_sentences import DiffSentences
from authstate.adapters.tables.report_style import ReportStyle
from authstate.adapters.tables.table_data import TableData, running_tables
from authstate.adapters.tables.table_diff import TableDiff, TableFate, TablesDiff, compare_tables
from authstate.engine.machines.table import Effect, Guard, Table, TableMachine
from authstate.engine.model.errors import AuthError, TransitionRefused

RUNNING = running_tables(TABLES, TABLE_WORDS)
CONSEQUENCES = ("cells", "no_longer_reached", "newly_reached", "no_longer_final", "newly_final")
Outcome = tuple[str, str] | str
"""The target and the effect; or the guard that refused, "" if there is no row."""


def diff_of(old: TableData, new: TableData) -> TableDiff:
    return compare_tables("old", {"t": old}, "new", {"t": new}).tables[0]


def outcome(table: Table, state: str, trigger: str, agreeing: frozenset[str]) -> Outcome:
    """What happens in a cell while some guards agree and the others refuse."""
    refused_by = ""
    for row in table.rows:
        if row.trigger == trigger and state in row.sources:
            if not row.guard or row.guard in agreeing:
                return row.target, row.effect
            refused_by = row.guard
    return refused_by


def outcomes(table: Table, state: str, trigger: str, guards: tuple[str, ...]) -> list[Outcome]:
    """What happens in a cell for each way in which the guards can answer."""
    ways = product((True, False), repeat=len(guards))
    agreeing = [frozenset(guard for guard, agrees in zip(guards, way, strict=True) if agrees) for way in ways]
    return [outcome(table, state, trigger, some) for some in agreeing]


def is_allowed(found: list[Outcome]) -> bool:
    return any(isinstance(one, tuple) for one in found)


def changed_cells(old: TableData, new: TableData) -> dict[tuple[str, str], CellFate | None]:
    """The cells that must be named, and their fate if it is certain: found by trying every answer of every guard."""
    guards = tuple({row.guard for row in (*old.table.rows, *new.table.rows)} - {""})
    triggers = dict.fromkeys((*old.table.triggers, *new.table.triggers))
    found: dict[tuple[str, str], CellFate | None] = {}
    for state, trigger in product(new.table.states, triggers):
        was, now = (outcomes(data.table, state, trigger, guards) for data in (old, new))
        if was != now:
            fate = CellFate.REFUSED if not is_allowed(now) else None if is_allowed(was) else CellFate.ALLOWED
            found[state, trigger] = fate
        elif not is_allowed(now) and len(errors(state, trigger, old, new)) == 2:
            found[state, trigger] = CellFate.OTHER_ERROR
    return found


def errors(state: str, trigger: str, *versions: TableData) -> set[str]:
    """What the versions raise. A version without words does not say, so nothing can be compared with it."""
    return {data.words.refusal(state, trigger) for data in versions if data.words is not None}


def named(diff: TableDiff) -> dict[str, object]:
    """What the difference names as changed, without the consequences."""
    fields = {name: getattr(diff, name) for name in TableDiff.__struct_fields__[4:] if name not in CONSEQUENCES}
    return {name: value for name, value in fields.items() if value not in (None, (), False)}


def check(old: TableData, mutant: Mutant) -> None:
    diff = diff_of(old, mutant.data)
    assert diff.fate is TableFate.CHANGED, mutant.name
    assert named(diff) == mutant.named, mutant.name
    cells = {(cell.state, cell.trigger): cell.fate for cell in diff.cells}
    expected = changed_cells(old, mutant.data)
    assert set(cells) == set(expected), mutant.name
    assert all(fate in (None, cells[cell]) for cell, fate in expected.items()), mutant.name
    assert len(list(DiffSentences(diff, ReportStyle(is_markdown=False)).changes())) == len(mutant.named), mutant.name


@pytest.mark.parametrize("name", RUNNING)
def test_the_difference_names_exactly_what_was_changed(name: str) -> None:
    mutants = list(mutants_of(RUNNING[name]))
    assert len(mutants) > 50
    for mutant in mutants:
        check(RUNNING[name], mutant)


@pytest.mark.parametrize("name", RUNNING)
def test_two_changes_of_different_rows_are_both_named(name: str) -> None:
    old = RUNNING[name]
    for one, other in pairs(old):
        rows = [*one.data.table.rows]
        [first], [second] = one.named["rows"], other.named["rows"]
        rows[rows.index(second.old)] = second.new
        both = msgspec.structs.replace(old, table=msgspec.structs.replace(old.table, rows=tuple(rows)))
        found = diff_of(old, both).rows
        assert set(found) == {first, second}, f"{one.name}, {other.name}"


def pairs(old: TableData) -> Iterator[tuple[Mutant, Mutant]]:
    """Changes of one row, each with one of another row."""
    changed = [mutant for mutant in mutants_of(old) if len(mutant.data.table.rows) == len(old.table.rows)]
    changed = [mutant for mutant in changed if mutant.named.get("rows")]
    for place, one in enumerate(changed):
        other = changed[(place + len(changed) // 2) % len(changed)]
        if one.named["rows"][0].old != other.named["rows"][0].old:
            yield one, other


def test_the_same_tables_do_not_differ() -> None:
    diff = compare_tables("a", RUNNING, "b", running_tables(TABLES, TABLE_WORDS))
    assert diff.changed == ()
    assert as_text(diff) == "No state table differs between `a` and `b` (8 tables).\n"


@pytest.mark.parametrize("name", RUNNING)
def test_a_mutant_can_be_reported_in_every_form(name: str) -> None:
    for mutant in islice(mutants_of(RUNNING[name]), None, None, 20):
        diff = TablesDiff("a", "b", (diff_of(RUNNING[name], mutant.data), diff_of(mutant.data, RUNNING[name])))
        assert as_text(diff).count("differ between `a` and `b`") == 1
        assert "#### " in as_markdown(diff)
        assert len(msgspec.json.decode(as_json(diff))["changed"]) == 2


def test_the_outcomes_of_this_test_are_those_of_the_running_machine() -> None:
    for table in TABLES:
        guards = tuple({row.guard for row in table.rows} - {""})
        for agreeing in map(frozenset, chain([()], ([guard] for guard in guards), [guards])):
            machine = TableMachine(
                table,
                {guard: guard_that(agrees=guard in agreeing) for guard in guards},
                {row.effect: effect_of(row.effect) for row in table.rows},
            )
            for state, trigger in product(table.states, table.triggers):
                assert run(machine, state, trigger) == outcome_of_machine(table, state, trigger, agreeing)


def guard_that(*, agrees: bool) -> Guard:
    return lambda *_: None if agrees else AuthError()


def effect_of(name: str) -> Effect:
    return lambda model, _: model.effects.append(name)


class Model:
    def __init__(self, state: str) -> None:
        self.state = state
        self.effects: list[str] = []


def run(machine: TableMachine, state: str, trigger: str) -> object:
    model = Model(state)
    try:
        machine.fire(model, trigger)
    except TransitionRefused:
        return "no row"
    except AuthError:
        return "guard"
    return model.state, "".join(model.effects)


def outcome_of_machine(table: Table, state: str, trigger: str, agreeing: frozenset[str]) -> object:
    found = outcome(table, state, trigger, agreeing)
    return found if isinstance(found, tuple) else "guard" if found else "no row"
