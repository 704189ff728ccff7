"""The picture of a table as SVG: for a file of its own, and for a page that adds its own style.

A file has no script and loads nothing. It has a title and a description for those who do not see it, and follows the
reader's dark mode.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from authstate.adapters.tables import markup
from authstate.adapters.tables.layout import Box, Drawing, DrawnLine, DrawnNode, lay_out
from authstate.adapters.tables.layout_graph import LABEL_SIZE, LINE_HEIGHT, STATE_SIZE, Kind, Text
from authstate.adapters.tables.layout_text import has_sure_width, width_of
from authstate.engine.machines.arrows import arrows_of
from authstate.engine.machines.table import Row, Table

_SIGN = 18
"""The width of the sign of a loop, with the distance to its text."""
_NAME_HEIGHT = 36
"""Of the part of a state that holds its name."""


class Marks(msgspec.Struct, frozen=True):
    """What is to be seen at once: a class (`added`, `removed`, `changed`) for states, and for rows by their index."""

    states: Mapping[str, str] = {}
    rows: Mapping[int, str] = {}


def svg_file(table: Table, marks: Marks | None = None) -> str:
    """Return the picture of a table as the text of a file."""
    style = f"<style>\n{picture_style()}</style>\n"
    return svg(lay_out(table), attributes='xmlns="http://www.w3.org/2000/svg" ', style=style, marks=marks)


def svg(drawing: Drawing, *, attributes: str = "", style: str = "", marks: Marks | None = None) -> str:
    """Return a picture as an `<svg>` element.

    States, labels and lines say what they belong to: `data-state`, `data-rows` and `data-from` hold the indices of
    states and rows in the table.

    Args:
        drawing: the picture.
        attributes: more attributes of the element, each followed by a space.
        style: a `<style>` element to put into it.
        marks: what is to be seen at once.
    """
    return _Writer(drawing, marks or Marks()).write(attributes, style)


def picture_style() -> str:
    """Return the style sheet of pictures."""
    return Path(__file__).with_name("picture.css").read_text(encoding="utf-8")


def in_words(table: Table) -> str:
    """Return what a picture shows, for those who do not see it."""
    arrows = arrows_of(table)
    sentences = [f"Starts in {table.initial}."]
    for every in arrows.every:
        sentences.append(f"From {every.source} to {every.target}: {_named(every.rows)}.")
    for arrow in arrows.single:
        sentences.append(f"From {' and '.join(arrow.sources)} to {arrow.target}: {_named(arrow.rows)}.")
    for loop in arrows.loops:
        sentences.append(f"Stays in {loop.target}: {_named(loop.rows)}.")
    if table.finals:
        sentences.append(f"Ends in {', '.join(table.finals)}.")
    return " ".join(sentences)


def _named(rows: Iterable[Row]) -> str:
    return ", ".join(f"{row.trigger} if {row.guard}" if row.guard else str(row.trigger) for row in rows)


class _Writer:
    def __init__(self, drawing: Drawing, marks: Marks) -> None:
        self.drawing = drawing
        self.table = drawing.table
        self.marks = marks

    def write(self, attributes: str, style: str) -> str:
        """Return the element."""
        drawing, name = self.drawing, markup.place(self.table.name)
        lines = [
            f'<svg {attributes}class="picture" width="{drawing.width}" height="{drawing.height}" '
            f'viewBox="0 0 {drawing.width} {drawing.height}" role="img" '
            f'aria-labelledby="{name}~title {name}~desc">',
            f'<title id="{name}~title">{markup.text(self.table.title)}</title>',
            f'<desc id="{name}~desc">{markup.text(in_words(self.table))}</desc>',
            f'{style}<rect class="page" width="{drawing.width}" height="{drawing.height}" rx="8"/>',
        ]
        for line in drawing.lines:
            lines += self._line(line)
        for node in drawing.nodes:
            lines += self._node(node)
        return "\n".join([*lines, "</svg>"]) + "\n"

    def _line(self, line: DrawnLine) -> Iterator[str]:
        (x1, y1), (x2, y2) = line.start, line.end
        marked = self._mark_of(line.rows)
        states = [str(index) for index, state in enumerate(self.table.states) if state in line.sources]
        data = f'data-from="{" ".join(states)}" data-rows="{_numbers(line.rows)}"'
        if line.points_to == "right":
            yield f'<path class="head{marked}" {data} d="M{x2} {y2}l-9 -4.5v9z"/>'
            x2 -= 7
        if line.points_to == "left":
            yield f'<path class="head{marked}" {data} d="M{x1} {y1}l9 -4.5v9z"/>'
            x1 += 7
        left, right = max(line.bend_left, x1), min(line.bend_right, x2)
        middle = (left + right) // 2
        curve = f"H{left}C{middle} {y1} {middle} {y2} {right} {y2}H{x2}" if y1 != y2 else f"H{x2}"
        yield f'<path class="line{marked}" {data} d="M{x1} {y1}{curve}"/>'

    def _node(self, node: DrawnNode) -> Iterator[str]:
        box = node.box
        x, y = box.left + box.width // 2, box.top + box.height // 2
        match node.kind:
            case Kind.STATE:
                yield from self._state(node)
            case Kind.LABEL:
                yield from self._label(node)
            case Kind.START:
                yield f'<circle class="start" cx="{x}" cy="{y}" r="{box.width // 2}"/>'
            case _:
                yield f'<circle class="junction" cx="{x}" cy="{y}" r="{box.width // 2}"/>'

    def _state(self, node: DrawnNode) -> Iterator[str]:
        box, mark = node.box, self.marks.states.get(node.state, "")
        kind = " final" if node.state in self.table.finals else ""
        index = self.table.states.index(node.state)
        yield f'<g class="state{kind}{mark and f" {mark}"}" data-state="{index}">{_rect(box, 9)}'
        if kind:
            yield _rect(Box(box.left + 3, box.top + 3, box.width - 6, box.height - 6), 7)
        name, *loops = node.texts
        used = _NAME_HEIGHT + (LINE_HEIGHT * len(loops) + 4 if loops else 0)
        top = box.top + (box.height - used) // 2
        yield _line_of_text(name, box.left + box.width // 2, top + 23, "middle")
        if loops:
            rule = top + _NAME_HEIGHT - 3
            yield f'<path class="rule" d="M{box.left + 6} {rule}H{box.right - 6}"/>'
        for place, text in enumerate(loops):
            line = top + _NAME_HEIGHT + LINE_HEIGHT * (place + 1) - 3
            if text.kind == "trigger":
                yield _loop_sign(box.left + 11, line - 4)
            yield _line_of_text(text, box.left + 6 + _SIGN, line, "start")
        yield "</g>"

    def _label(self, node: DrawnNode) -> Iterator[str]:
        box = node.box
        is_every = node.texts[0].kind == "source"
        kind = " every" if is_every else ""
        target = self.table.states.index(node.state)
        yield (
            f'<g class="label{kind}{self._mark_of(node.rows)}" data-rows="{_numbers(node.rows)}" '
            f'data-to="{target}">{_rect(box, 12 if is_every else 4)}'
        )
        for place, text in enumerate(node.texts):
            line = box.top + 4 + LINE_HEIGHT * (place + 1) - 4
            yield _line_of_text(text, box.left + box.width // 2, line, "middle")
        yield "</g>"

    def _mark_of(self, rows: tuple[int, ...]) -> str:
        """The class of what belongs to these rows, after a space, if all of them have the same."""
        found = {self.marks.rows.get(row, "") for row in rows}
        mark = found.pop() if len(found) == 1 else ""
        return mark and f" {mark}"


def _line_of_text(text: Text, x: int, y: int, anchor: str) -> str:
    size = STATE_SIZE if text.kind == "name" else LABEL_SIZE
    width = f' textLength="{width_of(text.text, size)}" lengthAdjust="spacingAndGlyphs"'
    stretched = "" if has_sure_width(text.text) else width
    rows = f' data-row="{_numbers(text.rows)}"' if text.rows else ""
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{text.kind}" x="{x}" y="{y}"{anchored}{stretched}{rows}>{markup.text(text.text)}</text>'


def _rect(box: Box, radius: int) -> str:
    return f'<rect x="{box.left}" y="{box.top}" width="{box.width}" height="{box.height}" rx="{radius}"/>'


def _loop_sign(x: int, y: int) -> str:
    """An arrow in a circle, about 10 pixels wide."""
    return f'<path class="loop" d="M{x + 4} {y - 3}a4.5 4.5 0 1 0 1.5 3m-4.5 -3h3v-3"/>'


def _numbers(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))
