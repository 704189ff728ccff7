"""A picture shows the whole table, nothing in it overlaps, and every machine draws the same."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from support.generated_tables import HOSTILE_TABLE, tables
from support.paths import REPO

from authstate.adapters.cli.state_tables import TABLES
from authstate.adapters.tables.layout import Drawing, lay_out
from authstate.adapters.tables.layout_graph import LABEL_SIZE, STATE_SIZE, Kind
from authstate.adapters.tables.layout_places import spread
from authstate.adapters.tables.layout_text import shown, width_of, wrapped
from authstate.adapters.tables.svg import svg_file
from authstate.engine.machines.table import Row, Table

SVG = "{http://www.w3.org/2000/svg}"
_PATH = re.compile(r"M(\d+) (\d+)(?:H(\d+)C(\d+) (\d+) (\d+) (\d+) (\d+) (\d+))?H(\d+)")


class Area(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Area") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def holds(self, other: "Area") -> bool:
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


class Picture:
    """What an SVG file draws."""

    def __init__(self, table: Table) -> None:
        self.root = ElementTree.fromstring(svg_file(table))
        self.boxes = [area_of(group.find(f"{SVG}rect")) for group in self.root.findall(f"{SVG}g")]
        self.dots = [area_of_dot(dot) for dot in self.root.findall(f"{SVG}circle")]
        self.texts = [
            (box, area_of_text(text))
            for group, box in zip(self.root.findall(f"{SVG}g"), self.boxes, strict=True)
            for text in group.findall(f"{SVG}text")
        ]
        self.lines = [
            list(points_of(path.get("d", "")))
            for path in self.root.findall(f"{SVG}path")
            if "line" in path.get("class", "").split()
        ]

    def assert_nothing_overlaps(self) -> None:
        whole = Area(0, 0, float(self.root.get("width", "")), float(self.root.get("height", "")))
        for one, other in combinations([*self.boxes, *self.dots], 2):
            assert not one.overlaps(other), f"{one} and {other}"
        for box, text in self.texts:
            assert box.holds(text), f"the text {text} is not in {box}"
        for (_, one), (_, other) in combinations(self.texts, 2):
            assert not one.overlaps(other), f"the texts {one} and {other}"
        for box in self.boxes:
            assert whole.holds(box)
        for line in self.lines:
            rights, lows = [x for x, _ in line], [y for _, y in line]
            bounds = Area(min(rights) - 1, min(lows) - 1, max(rights) + 1, max(lows) + 1)
            for box in filter(bounds.overlaps, self.boxes):
                for x, y in line:
                    inside = box.left < x < box.right and box.top < y < box.bottom
                    assert not inside, f"a line crosses {box} at {x}, {y}"


def area_of(rect: ElementTree.Element | None) -> Area:
    assert rect is not None
    x, y, width, height = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
    return Area(x, y, x + width, y + height)


def area_of_dot(dot: ElementTree.Element) -> Area:
    x, y, radius = (float(dot.get(name, "")) for name in ("cx", "cy", "r"))
    return Area(x - radius, y - radius, x + radius, y + radius)


def area_of_text(text: ElementTree.Element) -> Area:
    size = STATE_SIZE if text.get("class") == "name" else LABEL_SIZE
    width = width_of(text.text or "", size)
    x, y = float(text.get("x", "")), float(text.get("y", ""))
    left = x - width / 2 if text.get("text-anchor") == "middle" else x
    return Area(left, y - size * 0.8, left + width, y + size * 0.25)


def points_of(path: str) -> Iterator[tuple[float, float]]:
    """Points on a path, close to each other."""
    found = _PATH.fullmatch(path)
    assert found, path
    x, y, left, *numbers = (float(number) if number else None for number in found.groups())
    assert x is not None and y is not None
    end = numbers.pop()
    assert end is not None
    if left is None:
        yield from ((x + (end - x) * step / 20, y) for step in range(21))
        return
    (ax, ay, bx, by, right, low) = (number for number in numbers if number is not None)
    yield from ((x + (left - x) * step / 20, y) for step in range(21))
    for step in range(21):
        t = step / 20
        u = 1 - t
        yield (
            u**3 * left + 3 * u * u * t * ax + 3 * u * t * t * bx + t**3 * right,
            u**3 * y + 3 * u * u * t * ay + 3 * u * t * t * by + t**3 * low,
        )
    yield from ((right + (end - right) * step / 20, low) for step in range(21))


def drawn_arrows(drawing: Drawing) -> set[tuple[int, str, str]]:
    """The row, the source and the target of everything that the lines and the loops say."""
    found: set[tuple[int, str, str]] = set()
    for node in drawing.nodes:
        if node.kind is Kind.STATE:
            found |= {(row, node.state, node.state) for text in node.texts for row in text.rows}
    labels = {node.box: node for node in drawing.nodes if node.kind is Kind.LABEL}
    for line in drawing.lines:
        for label in labels.values():
            edge = label.box.right if line.points_to == "right" else label.box.left
            x, y = line.start if line.points_to == "right" else line.end
            if line.points_to and x == edge and label.box.top < y < label.box.bottom:
                found |= {(row, source, label.state) for row in label.rows for source in line.sources}
    return found


def expected_arrows(table: Table) -> set[tuple[int, str, str]]:
    return {(index, source, row.target) for index, row in enumerate(table.rows) for source in row.sources}


@pytest.mark.parametrize("table", [*TABLES, HOSTILE_TABLE], ids=lambda table: table.name[:20])
def test_nothing_overlaps(table: Table) -> None:
    Picture(table).assert_nothing_overlaps()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_whole_table_is_drawn(table: Table) -> None:
    assert drawn_arrows(lay_out(table)) == expected_arrows(table)


@given(tables())
@settings(derandomize=True, deadline=None, max_examples=25)
def test_nothing_overlaps_in_the_picture_of_any_table(table: Table) -> None:
    Picture(table).assert_nothing_overlaps()
    assert drawn_arrows(lay_out(table)) == expected_arrows(table)


def test_an_overlap_would_be_noticed() -> None:
    picture = Picture(TABLES[0])
    first = picture.boxes[0]
    picture.boxes.append(first._replace(left=first.left + 1))
    with pytest.raises(AssertionError):
        picture.assert_nothing_overlaps()
    picture = Picture(TABLES[0])
    picture.lines.append([((first.left + first.right) / 2, (first.top + first.bottom) / 2)])
    with pytest.raises(AssertionError, match="a line crosses"):
        picture.assert_nothing_overlaps()


def test_each_process_draws_the_same() -> None:
    """Sets have another order in each process. This process has drawn the committed files: test_source_tree.py."""
    program = f"from authstate.adapters.cli.main import main; main(['diagram', '--check', {str(REPO / 'diagrams')!r}])"
    environ = {**os.environ, "PYTHONHASHSEED": "1"}
    checked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ)
    assert "files are up to date" in checked.stdout, checked.stderr


def test_the_states_of_a_circle_have_an_order_that_begins_with_the_first() -> None:
    rows = (Row("one", ("a",), "b", ""), Row("two", ("b",), "c", ""), Row("three", ("c",), "a", ""))
    drawing = lay_out(Table("t", "T", ("c", "b", "a"), "a", rows))
    lefts = {node.state: node.box.left for node in drawing.nodes if node.kind is Kind.STATE}
    assert lefts["a"] < lefts["b"] < lefts["c"]
    assert [line.points_to for line in drawing.lines].count("left") == 1


def test_a_table_without_rows_has_a_picture() -> None:
    drawing = lay_out(Table("t", "T", ("a",), "a", ()))
    assert [node.kind for node in drawing.nodes] == [Kind.STATE, Kind.START]
    assert len(drawing.lines) == 1


def test_things_are_spread_where_they_want_to_be() -> None:
    assert spread([(5, 1), (40, 1)], [0, 10]) == [5, 40]
    assert spread([(20, 1), (20, 1), (20, 1)], [0, 10, 10]) == [10, 20, 30]
    assert spread([(20, 3), (20, 1)], [0, 8]) == [18, 26], "who wants it more moves less"


def test_texts_are_measured_without_a_font() -> None:
    assert width_of("ab", 10) == 13
    assert width_of("状", 10) == width_of("ab", 10)
    assert shown("a\x00\u202e\ud800b\n") == "a\ufffd\ufffd\ufffdb\ufffd"
    assert wrapped("any state except external_tokens", 20) == ("any state except", "external_tokens")
    assert wrapped("", 20) == ("",)
