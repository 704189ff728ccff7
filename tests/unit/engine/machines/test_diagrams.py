"""The diagrams say what the tables say, all of it and nothing else."""

import re

import pytest
from support.paths import REPO

from authstate.adapters.cli.state_tables import TABLES
from authstate.engine.machines.diagrams import graphviz, markdown, mermaid, picture, render_all
from authstate.engine.machines.table import Row, Table

ARROWS = [
    (table, f"{row.trigger} [{row.guard}]" if row.guard else row.trigger, source, row.target)
    for table in TABLES
    for row in table.rows
    for source in row.sources
]


def drawn(text: str, pattern: str, between: str) -> list[tuple[str, str, str]]:
    """Every arrow in a drawing: label, source, target."""
    return sorted(
        (label, source, target)
        for source, target, labels in re.findall(pattern, text)
        for label in labels.split(between)
    )


def drawn_by_graphviz(table: Table) -> list[tuple[str, str, str]]:
    """Every arrow in the DOT text: the one from "any state" stands for one from each."""
    text = graphviz(table)
    groups = dict(re.findall(r'(every_\d+) \[label="(.*)", style', text))
    arrows = []
    for label, source, target in drawn(text, r'(\w+) -> (\w+) \[label="(.*)"\]', r"\n"):
        words, _, exceptions = groups.get(source, "").partition(" except ")
        without = {*exceptions.split(", "), *([target] if words == "any other state" else [])}
        arrows += [(label, one, target) for one in ({*table.states} - without if words else {source})]
    return sorted(arrows)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_drawings_have_exactly_the_arrows_of_the_table(table: Table) -> None:
    expected = sorted((label, source, target) for owner, label, source, target in ARROWS if owner is table)
    assert drawn(mermaid(table), r"(\w+) --> (\w+) : (.*)", "<br>") == expected
    assert drawn_by_graphviz(table) == expected
    assert f"[*] --> {table.initial}\n" in mermaid(table)
    assert f"start -> {table.initial};" in graphviz(table)
    for state in table.states:
        final = state in table.finals
        assert (f"{state} --> [*]\n" in mermaid(table)) is final
        assert (f"{state} [peripheries=2]" in graphviz(table)) is final


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_markdown_has_a_line_for_each_row(table: Table) -> None:
    lines = markdown(table).splitlines()
    assert lines[0] == f"# {table.title}"
    assert len(lines[6:]) == len(table.rows)
    for line, row in zip(lines[6:], table.rows, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        sources = "every state" if set(row.sources) == set(table.states) else ", ".join(f"`{s}`" for s in row.sources)
        assert cells == [
            f"`{row.trigger}`",
            sources,
            f"`{row.guard}`" if row.guard else "",
            f"`{row.target}`",
            f"`{row.effect}`" if row.effect else "",
            row.meaning,
        ]


def test_a_changed_row_changes_the_drawings() -> None:
    table = Table("t", "T", ("a", "b"), "a", (Row("go", ("a",), "b", "go on"),))
    other = Table("t", "T", ("a", "b"), "a", (Row("go", ("a",), "a", "go on"),))
    for draw in (mermaid, graphviz, markdown):
        assert draw(table) != draw(other)


def test_the_index_shows_every_table_as_a_picture() -> None:
    index = render_all(TABLES)["README.md"]
    assert index.count("\n![") == len(TABLES)
    for table in TABLES:
        assert f"\n{picture(table, '')}\n" in index


def test_every_table_of_the_source_is_drawn() -> None:
    modules = [path for folder in ("engine", "adapters") for path in (REPO / folder).rglob("*.py")]
    defined = [
        name
        for path in modules
        for name in re.findall(r"^\w+[^=\n]* = Table\(\s*name=\"(\w+)\"", path.read_text(encoding="utf-8"), re.M)
    ]
    assert sorted(defined) == sorted(table.name for table in TABLES)
