"""The picture of a difference: every arrow of both versions, each with its colour."""

import re
from itertools import islice

import msgspec
import pytest
from support.table_mutants import mutants_of

from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.tables.diff_picture import picture
from authstate.adapters.tables.table_data import TableData, running_tables
from authstate.adapters.tables.table_diff import compare_tables
from authstate.engine.machines.table import Table

RUNNING = running_tables(TABLES, TABLE_WORDS)
COLOURS = {"#1a7f37": "added", "#d1242f": "removed", "#bc4c00": "changed", "#8c959f": "same"}
Arrows = dict[tuple[str, str, str], str]


def draw(old: TableData | None, new: TableData | None) -> str:
    return picture(compare_tables("o", {"t": old} if old else {}, "n", {"t": new} if new else {}).tables[0])


def drawn(text: str, states: tuple[str, ...]) -> Arrows:
    """Each arrow, from its source to its target with its trigger, and its colour in words."""
    names = {node: label.split(" (")[0] for node, label in re.findall(r'^    (\w+)\["(.*)"\]$', text, re.M)}
    links = re.findall(r'^    (\w+) -->(?:\|"?(.*?)"?\|)? (\w+)$', text, re.M)
    fates = [""] * len(links)
    for numbers, colour in re.findall(r"^    linkStyle ([\d,]+) stroke:(#\w+)", text, re.M):
        for number in numbers.split(","):
            fates[int(number)] = COLOURS[colour]
    found: Arrows = {}
    for (source, labels, target), fate in zip(links, fates, strict=True):
        for label in labels.split("<br>") if source != "start" else ():
            assert label.endswith(f" ({fate})") or fate == "same"
            for state in states if source == "every" else (names[source],):
                found[state, label.split(" ")[0], names[target]] = fate
    return found


def expected(old: Table | None, new: Table | None) -> Arrows:
    def arrows(table: Table | None) -> dict[tuple[str, str, str], tuple[str, str, str]]:
        rows = table.rows if table else ()
        return {
            (source, row.trigger, row.target): (row.guard, row.effect, row.meaning)
            for row in rows
            for source in row.sources
        }

    before, after = arrows(old), arrows(new)
    return {
        arrow: "added"
        if arrow not in before
        else "removed"
        if arrow not in after
        else "same"
        if before[arrow] == after[arrow]
        else "changed"
        for arrow in {**after, **before}
    }


@pytest.mark.parametrize("name", RUNNING)
def test_every_arrow_of_a_mutant_has_its_colour(name: str) -> None:
    old = RUNNING[name]
    for mutant in islice(mutants_of(old), None, None, 9):
        new = mutant.data
        text = draw(old, new)
        if not text:
            assert set(expected(old.table, new.table).values()) == {"same"} and old.table.states == new.table.states
        elif len({(row.trigger, row.target, source) for row in new.table.rows for source in row.sources}) == sum(
            len(row.sources) for row in new.table.rows
        ):
            assert drawn(text, new.table.states) == expected(old.table, new.table), mutant.name


@pytest.mark.parametrize("name", RUNNING)
def test_a_table_that_comes_or_goes_is_drawn_as_a_whole(name: str) -> None:
    data = RUNNING[name]
    assert drawn(draw(None, data), data.table.states) == expected(None, data.table)
    assert drawn(draw(data, None), data.table.states) == expected(data.table, None)


def test_what_leads_from_every_state_is_drawn_once() -> None:
    auth = RUNNING["auth_state"]
    fewer = msgspec.structs.replace(auth, table=msgspec.structs.replace(auth.table, rows=auth.table.rows[:-1]))
    assert draw(auth, fewer).count("log_out") == 1


def test_states_and_the_start_have_colours() -> None:
    lease = RUNNING["lease"]
    table = msgspec.structs.replace(lease.table, states=("active", "expired", "paused"), initial="paused")
    text = draw(lease, msgspec.structs.replace(lease, table=table))
    assert '    s2["paused (added)"]\n' in text
    assert '    s3["ended (removed)"]\n' in text
    assert "    class s2 added\n" in text and "    class s3 removed\n" in text and "    class s0,s1 same\n" in text
    assert "    start -->|added| s2\n" in text and "    start -->|removed| s0\n" in text


def test_nothing_is_drawn_if_only_words_differ() -> None:
    lease = RUNNING["lease"]
    assert draw(lease, msgspec.structs.replace(lease, words=None)) == ""
