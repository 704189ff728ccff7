"""Lays out the picture of a table: boxes, labels and lines with their coordinates in pixels.

The same table has the same picture on every machine: no fonts are measured, no random numbers are used, and what is
computed is rounded to whole pixels. A label overlaps no box, label or line, because each has a place of its own
(`layout_graph.py`).

It is code of our own, because a picture needs labels on its arrows: no maintained library in Python alone places them.
Grandalf, which comes nearest, places boxes only and is under the GPL.
"""

import msgspec

from authstate.adapters.tables.layout_graph import Graph, Kind, Node, Piece, Text, graph_of
from authstate.adapters.tables.layout_order import Layers, ordered_layers
from authstate.adapters.tables.layout_places import Places, places_of
from authstate.engine.machines.table import Table

MARGIN = 16


class Box(msgspec.Struct, frozen=True):
    """A rectangle."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """Its lower edge."""
        return self.top + self.height


class DrawnNode(msgspec.Struct, frozen=True):
    """A state, a label, a junction or the start, with its place."""

    kind: Kind
    box: Box
    texts: tuple[Text, ...]
    rows: tuple[int, ...]
    state: str
    """The state that it is. Of a label: the state that its arrow leads to."""


class DrawnLine(msgspec.Struct, frozen=True):
    """A piece of a line: straight to `bend_left`, a curve to `bend_right`, and straight again."""

    start: tuple[int, int]
    bend_left: int
    bend_right: int
    end: tuple[int, int]
    points_to: str
    """Where its arrowhead is: `left`, `right` or nowhere."""
    sources: frozenset[str]
    """The states whose arrows run through it."""
    rows: tuple[int, ...]


class Drawing(msgspec.Struct, frozen=True):
    """The picture of a table."""

    table: Table
    width: int
    height: int
    nodes: tuple[DrawnNode, ...]
    lines: tuple[DrawnLine, ...]


def lay_out(table: Table) -> Drawing:
    """Return the picture of a table. It takes some milliseconds for a table of eight states."""
    graph = graph_of(table)
    layers = ordered_layers(graph)
    places = places_of(graph, layers)
    boxes = _boxes(layers, places)
    nodes = tuple(
        DrawnNode(node.kind, boxes[node.key], node.texts, node.rows, node.state)
        for node in graph.nodes
        if node.kind is not Kind.BEND
    )
    width = max(box.right for box in boxes.values()) + MARGIN
    height = max(box.bottom for box in boxes.values()) + MARGIN
    return Drawing(table, width, height, nodes, _lines(graph, layers, places, boxes))


def _boxes(layers: Layers, places: Places) -> dict[tuple[object, ...], Box]:
    boxes: dict[tuple[object, ...], Box] = {}
    for layer, (left, right) in zip(layers, places.columns, strict=True):
        for node in layer:
            width = right - left if node.kind is Kind.BEND else node.width
            middle = left + (right - left - width) // 2
            top = places.middles[node.key] - node.height // 2
            boxes[node.key] = Box(MARGIN + middle, MARGIN + top, width, node.height)
    return boxes


def _lines(graph: Graph, layers: Layers, places: Places, boxes: dict[tuple[object, ...], Box]) -> tuple[DrawnLine, ...]:
    columns = {layer[0].layer: column for layer, column in zip(layers, places.columns, strict=True)}

    def drawn(piece: Piece) -> DrawnLine:
        def height_at(node: Node) -> int:
            return MARGIN + places.ports[piece.left.key, piece.right.key, node.key]

        end = boxes[piece.right.key].right if piece.right.kind is Kind.BEND else boxes[piece.right.key].left
        return DrawnLine(
            (boxes[piece.left.key].right, height_at(piece.left)),
            MARGIN + columns[piece.left.layer][1],
            MARGIN + columns[piece.right.layer][0],
            (end, height_at(piece.right)),
            piece.points_to,
            piece.sources,
            piece.rows,
        )

    return tuple(map(drawn, graph.pieces))
