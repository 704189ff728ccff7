"""The page of the tables, read without a script: everything is in it, nothing else runs or is loaded."""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.generated_tables import HOSTILE_TABLE, HOSTILE_WORDS
from support.paths import REPO

from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.tables.cells import cells_of
from authstate.adapters.tables.held_by import HeldCell, UnreadableCoverage, read_held_by
from authstate.adapters.tables.layout_text import shown
from authstate.adapters.tables.markup import place
from authstate.adapters.tables.page import page
from authstate.engine.machines.table import Table

MOST_BYTES = 300_000
PAGE = page(TABLES, TABLE_WORDS, {})
VOID = {"meta", "link", "br"}


class Document(HTMLParser):
    """A page: its elements with their attributes and texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[int] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.parents: list[int | None] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.parents.append(self.open[-1] if self.open else None)
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element without content."""
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element, which must be this."""
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        """Add text to all open elements."""
        for index in self.open:
            self.texts[index] += data

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def with_attribute(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.elements if name in attributes]


def articles(document: Document) -> Mapping[str, str]:
    """The text of each state, by its id."""
    return {
        attributes["id"] or "": text
        for (tag, attributes), text in zip(document.elements, document.texts, strict=True)
        if tag == "article"
    }


def test_every_cell_is_in_the_part_of_its_state() -> None:
    shown_articles = articles(Document(PAGE))
    assert len(shown_articles) == sum(len(table.states) for table in TABLES)
    for table in TABLES:
        words = TABLE_WORDS[table.name]
        for cell in cells_of(table, words):
            text = shown_articles[place(table.name, cell.state)]
            assert words.states[cell.state].replace("`", "") in text
            if cell.row:
                way = "stays in" if cell.row.target == cell.state else "leads to"
                assert f"{cell.trigger} {way} {cell.row.target}" in text
                assert cell.row.meaning.replace("`", "") in text
                assert f"{cell.row.effect}: {words.effects[cell.row.effect]}" in text if cell.row.effect else True
                assert f"{cell.row.guard}: {words.guards[cell.row.guard]}" in text if cell.row.guard else True
                assert all(name in text for name in (*cell.errors, *words.events.get(cell.trigger, ())))
            else:
                outcome = "is ignored" if cell.is_ignored else f"raises {cell.errors[0]}"
                assert f"{cell.trigger} {outcome}" in text
            assert words.timeouts.get(cell.state, "").replace("`", "")[1:] in text


def test_every_row_and_every_cell_is_in_a_table() -> None:
    document = Document(PAGE)
    lines = [
        " ".join(text.split()) for (tag, _), text in zip(document.elements, document.texts, strict=True) if tag == "tr"
    ]
    for table in TABLES:
        for row in table.rows:
            found = [line for line in lines if line.startswith(row.trigger) and row.meaning.replace("`", "") in line]
            assert found, row
    expected = sum(len(table.rows) + 1 + len(table.triggers) + 1 for table in TABLES)
    assert len(lines) == expected


def test_only_its_own_script_and_style_are_allowed() -> None:
    document = Document(PAGE)
    [policy] = [one["content"] or "" for one in document.with_attribute("http-equiv")]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        [content] = [text for (one, _), text in zip(document.elements, document.texts, strict=True) if one == tag]
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [
        one for one in document.elements for name in one[1] if name.startswith("on") or name in ("src", "style")
    ]
    assert {one["href"] for one in document.with_attribute("href") if not (one["href"] or "").startswith("#")} == {
        "data:,"
    }


def test_its_links_lead_to_its_parts_and_no_id_is_used_twice() -> None:
    for tables, words in ((TABLES, TABLE_WORDS), ((HOSTILE_TABLE,), {HOSTILE_TABLE.name: HOSTILE_WORDS})):
        document = Document(page(tables, words, {}))
        ids = [one["id"] for one in document.with_attribute("id")]
        assert len(ids) == len(set(ids))
        named = {
            name
            for one in document.with_attribute("aria-labelledby")
            for name in (one["aria-labelledby"] or "").split()
        }
        linked = {(one["href"] or "")[1:] for one in document.with_attribute("href")} - {"ata:,"}
        assert named | linked <= set(ids)


def test_it_is_small() -> None:
    committed = (REPO / "diagrams" / "tables.html").read_bytes()
    assert len(PAGE.encode()) <= len(committed) < MOST_BYTES


def test_hostile_names_stay_text() -> None:
    harmless = Document(PAGE)
    held = (HeldCell(HOSTILE_TABLE.initial, HOSTILE_TABLE.rows[0].trigger, "row", {"unit": ('"><script>x</script>',)}),)
    document = Document(page((HOSTILE_TABLE,), {HOSTILE_TABLE.name: HOSTILE_WORDS}, {HOSTILE_TABLE.name: held}))
    assert document.tags() <= harmless.tags() | {"strong", "details", "summary"}
    assert [tag for tag, _ in document.elements].count("script") == 1
    for tag, attributes in document.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
    texts = articles(document).values()
    assert len(texts) == len(HOSTILE_TABLE.states)
    for state, text in zip(HOSTILE_TABLE.states, texts, strict=True):
        assert shown(state) in text
    assert any('"><script>x</script>' in text for text in texts)


TABLE = Table("auth_state", "T", TABLES[0].states, TABLES[0].initial, TABLES[0].rows[:1])


def with_held(*held: HeldCell) -> str:
    text = articles(Document(page((TABLE,), TABLE_WORDS, {TABLE.name: held})))["auth_state/logged_out"]
    return " ".join(text.split())


def test_it_names_the_tests_that_hold_a_cell() -> None:
    several = {"unit": ("unit/a.py", "unit/b.py"), "process": ("interop/c.py",)}
    shown_text = with_held(
        HeldCell("logged_out", "use_api_key", "row", several),
        HeldCell("logged_out", "use_api_key", "refused by guard", {"model": ("model/d.py",), "unit": ()}),
    )
    assert "Tests2 unit, 1 processunit/a.pyunit/b.pyinterop/c.py" in shown_text.replace(" 2", "2").replace(
        "process ", "process"
    )
    assert "1 model only one kind" in shown_text
    assert "none" not in shown_text


def test_it_says_that_no_test_holds_a_cell() -> None:
    assert "Tests" not in " ".join(articles(Document(page((TABLE,), TABLE_WORDS, {})))["auth_state/logged_out"].split())
    many = tuple(f"unit/test_{index}.py" for index in range(9))
    shown_text = with_held(HeldCell("logged_out", "use_api_key", "row", {"unit": many}))
    assert re.search(r"unit/test_2\.py ?and 6 more unit tests", shown_text)
    assert re.search(r"Refusal tests ?none", shown_text)


def test_the_record_of_the_tests_is_read(tmp_path: Path) -> None:
    path = tmp_path / "coverage.json"
    assert read_held_by(path) == {}
    path.write_text('{"t": [{"state": "a", "trigger": "b", "outcome": "row", "held_by": {"unit": ["c"]}}]}')
    assert read_held_by(path) == {"t": (HeldCell("a", "b", "row", {"unit": ("c",)}),)}
    for wrong in ("{", "[]", '{"t": [{}]}', "\xff"):
        path.write_bytes(wrong.encode("latin-1"))
        with pytest.raises(UnreadableCoverage, match=r"coverage\.json is not a record of the tests"):
            read_held_by(path)
