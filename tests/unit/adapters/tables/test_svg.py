"""The picture of a table as a file: harmless, readable in both colour schemes, and told to those who do not see it."""

from xml.etree import ElementTree

import pytest
from support.generated_tables import HOSTILE_TABLE

from authstate.adapters.cli.state_tables import TABLES
from authstate.adapters.tables.layout_text import shown
from authstate.adapters.tables.svg import Marks, in_words, svg_file
from authstate.engine.machines.auth_state import AUTH_TABLE
from authstate.engine.machines.table import Row, Table

SVG = "{http://www.w3.org/2000/svg}"
ELEMENTS = {"svg", "title", "desc", "style", "rect", "path", "g", "text", "circle"}


@pytest.mark.parametrize("table", [*TABLES, HOSTILE_TABLE], ids=lambda table: table.name[:20])
def test_a_file_is_a_picture_and_nothing_else(table: Table) -> None:
    text = svg_file(table)
    root = ElementTree.fromstring(text)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= ELEMENTS
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on") or "href" in name]
    assert [element.tag for element in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")
    assert not {"url(", "@import", "http://", "https://"} & set((root.findtext(f"{SVG}style") or "").split())
    assert root.findtext(f"{SVG}title") == shown(table.title)
    assert [root.find(f".//*[@id='{one}']") for one in root.get("aria-labelledby", "").split()] == list(root)[:2]
    states = root.findall(f"{SVG}g[@data-state]")
    assert {int(state.get("data-state", "")): state.findtext(f"{SVG}text") for state in states} == {
        index: shown(state) for index, state in enumerate(table.states)
    }


def test_a_picture_is_told_in_words() -> None:
    words = in_words(AUTH_TABLE)
    assert words.startswith(
        "Starts in logged_out. From any state except external_tokens to api_key: use_api_key if permitted."
    )
    assert "From any state to logged_out: log_out, credentials_refused." in words
    assert "From refresh_dead to chatgpt: tokens_refreshed if same_account." in words
    assert "Stays in external_tokens: tokens_refreshed if same_account." in words
    assert in_words(Table("t", "T", ("a", "b", "c"), "a", (Row("go", ("a", "b"), "c", ""),))) == (
        "Starts in a. From a and b to c: go. Ends in c."
    )


def test_what_is_marked_has_its_class() -> None:
    rows = (Row("one", ("a",), "b", ""), Row("two", ("b",), "c", ""))
    table = Table("t", "T", ("a", "b", "c"), "a", rows)
    root = ElementTree.fromstring(svg_file(table, Marks(states={"c": "added"}, rows={1: "removed"})))
    [state] = [one for one in root.iter() if one.get("data-state") == "2"]
    assert state.get("class") == "state final added"
    marked = {one.get("data-rows") for one in root.iter() if "removed" in (one.get("class") or "").split()}
    assert marked == {"1"}
    assert len([one for one in root.iter() if one.get("data-rows") == "1"]) == 4, "two pieces, a head and a label"
