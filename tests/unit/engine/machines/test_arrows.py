"""The arrows of a table: nothing is lost, nothing is drawn twice, and what leads from every state is one arrow."""

from collections import Counter

import pytest
from hypothesis import given, settings
from support.generated_tables import tables

from authstate.adapters.cli.state_tables import TABLES
from authstate.engine.machines.arrows import Arrow, EveryArrow, arrows_of
from authstate.engine.machines.auth_state import AUTH_TABLE
from authstate.engine.machines.table import Row, Table

STATES = ("a", "b", "c", "d", "e")


def assert_complete(table: Table) -> None:
    """Each row of each source is in one arrow."""
    arrows = arrows_of(table)
    drawn = [(row, source) for every in arrows.every for row in every.rows for source in row.sources]
    for arrow in (*arrows.single, *arrows.loops):
        drawn += [(row, source) for row in arrow.rows for source in arrow.sources]
    assert Counter(drawn) == Counter((row, source) for row in table.rows for source in row.sources)
    for every in arrows.every:
        for row in every.rows:
            others = {*table.states} - {*every.exceptions, every.target}
            assert {*row.sources} == others | ({every.target} if every.is_loop else set())
            assert row.target == every.target
    assert all(source != arrow.target for arrow in arrows.single for source in arrow.sources)
    assert all(arrow.sources == (arrow.target,) for arrow in arrows.loops)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_arrows_are_those_of_the_table(table: Table) -> None:
    assert_complete(table)


@given(tables())
@settings(derandomize=True, deadline=None, max_examples=50)
def test_the_arrows_are_those_of_any_table(table: Table) -> None:
    assert_complete(table)


def test_what_leads_from_every_state_of_the_login_is_drawn_once() -> None:
    arrows = arrows_of(AUTH_TABLE)
    assert [(one.source, one.target, [row.trigger for row in one.rows]) for one in arrows.every] == [
        ("any state except external_tokens", "api_key", ["use_api_key"]),
        ("any state except external_tokens", "chatgpt", ["complete_chatgpt_login"]),
        ("any state", "external_tokens", ["use_external_tokens"]),
        ("any state", "logged_out", ["log_out", "credentials_refused"]),
    ]
    assert len(arrows.single) == len(arrows.loops) == 2


def arrows_from(*sources: str) -> tuple[Row, tuple[EveryArrow, ...], tuple[Arrow, ...], tuple[Arrow, ...]]:
    row = Row("go", sources, "e", "")
    arrows = arrows_of(Table("t", "T", STATES, "a", (row,)))
    return row, arrows.every, arrows.single, arrows.loops


def test_every_other_state_is_not_every_state() -> None:
    row, every, single, loops = arrows_from("a", "b", "c", "d")
    assert every == (EveryArrow("e", (), False, (row,)),)
    assert every[0].source == "any other state"
    assert single == loops == ()


def test_a_few_exceptions_are_named() -> None:
    row, every, single, loops = arrows_from("a", "b", "d", "e")
    assert every == (EveryArrow("e", ("c",), True, (row,)),)
    assert every[0].source == "any state except c"
    assert single == loops == ()


def test_of_few_states_each_has_its_own_line() -> None:
    row, every, single, loops = arrows_from("b", "a", "e")
    assert every == ()
    assert single == (Arrow(("a", "b"), "e", (row,)),)
    assert loops == (Arrow(("e",), "e", (row,)),)
