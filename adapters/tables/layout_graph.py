"""What a picture of a table consists of, before it has places: nodes in layers, and the pieces of lines between them.

The layers run from the left to the right. A state is in a layer of its own kind, and the label of an arrow is a node as
well, in the layer next to the target. So a label has a place that nothing else can take. A line that passes a layer has
a bend there, for the same reason.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import pairwise

import msgspec

from authstate.adapters.tables.layout_text import shown, width_of, wrapped
from authstate.engine.machines.arrows import Arrow, Arrows, EveryArrow, arrows_of
from authstate.engine.machines.table import Row, Table

STATE_SIZE = 14
"""The font size of a state, in pixels."""
LABEL_SIZE = 12
LINE_HEIGHT = 16
PORT_DISTANCE = 14
"""Between two lines that touch the same side of a state, at least."""
CORNER = 11
"""No line touches a state nearer to its corner than this, in pixels."""
_LAYERS_PER_RANK = 3  # a state, a junction, a label


class Kind(StrEnum):
    """What a node is."""

    STATE = "state"
    LABEL = "label"
    JUNCTION = "junction"
    """Where the lines of several states meet that lead on together."""
    BEND = "bend"
    START = "start"


class Text(msgspec.Struct, frozen=True):
    """A line of text."""

    text: str
    kind: str
    """`name`, `trigger`, `guard` or `source`: how it looks."""
    rows: tuple[int, ...] = ()
    """The rows of the table that it names, by their index."""


class Node(msgspec.Struct, frozen=True):
    """Something that takes a place in a layer."""

    key: tuple[object, ...]
    kind: Kind
    layer: int
    width: int
    height: int
    texts: tuple[Text, ...] = ()
    rows: tuple[int, ...] = ()
    state: str = ""
    """The state that it is, or that its arrow leads to."""


class Piece(msgspec.Struct, frozen=True):
    """A piece of a line, from a node to one in the next layer."""

    left: Node
    right: Node
    sources: frozenset[str]
    """The states whose arrows run through it."""
    rows: tuple[int, ...]
    points_to: str
    """Where its arrowhead is: `left`, `right` or nowhere."""


class Graph(msgspec.Struct, frozen=True):
    """A picture without places."""

    initial: str
    nodes: tuple[Node, ...]
    pieces: tuple[Piece, ...]


class _Link(msgspec.Struct, frozen=True):
    """A line from a node to one in any layer to the right. Links with the same `trunk` share their bends."""

    left: tuple[object, ...]
    right: tuple[object, ...]
    trunk: tuple[object, ...]
    sources: frozenset[str]
    rows: tuple[int, ...]
    points_to: str = ""


def graph_of(table: Table) -> Graph:
    """Return the nodes and the pieces of lines of a table."""
    return _Builder(table).build()


def ranks_of(table: Table, arrows: Iterable[Arrow]) -> dict[str, int]:
    """Return how far to the right each state is: behind all that lead to it, but for arrows that close a circle."""
    targets: dict[str, list[str]] = {state: [] for state in table.states}
    for arrow in arrows:
        for source in arrow.sources:
            targets[source].append(arrow.target)
    finished: list[str] = []
    forward: dict[str, list[str]] = {state: [] for state in table.states}
    on_the_way: list[str] = []

    def visit(state: str) -> None:
        on_the_way.append(state)
        for target in targets[state]:
            if target in on_the_way:
                continue
            forward[state].append(target)
            if target not in finished:
                visit(target)
        on_the_way.pop()
        finished.append(state)

    for state in (table.initial, *table.states):
        if state not in finished:
            visit(state)
    ranks = dict.fromkeys(table.states, 0)
    for state in reversed(finished):
        for target in forward[state]:
            ranks[target] = max(ranks[target], ranks[state] + 1)
    return ranks


class _Builder:
    """Makes the graph of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.arrows: Arrows = arrows_of(table)
        self.ranks: Mapping[str, int] = ranks_of(table, self.arrows.single)
        self.nodes: dict[tuple[object, ...], Node] = {}
        self.links: list[_Link] = []

    def build(self) -> Graph:
        """Return the graph."""
        for state in self.table.states:
            self._add_state(state)
        self._add_start()
        for every in self.arrows.every:
            self._add_every(every)
        for arrow in self.arrows.single:
            self._add_forward(arrow)
            self._add_backward(arrow)
        pieces = self._pieces()
        return _with_room_for_lines(Graph(self.table.initial, tuple(self.nodes.values()), pieces))

    def _add_state(self, state: str) -> None:
        texts = [Text(str(state), "name")]
        for loop in self.arrows.loops:
            if loop.target == state:
                texts += self._texts(loop.rows)
        width = max(width_of(one.text, STATE_SIZE if one.kind == "name" else LABEL_SIZE) for one in texts) + 24
        width += 18 if len(texts) > 1 else 0  # the sign of a loop
        height = 36 + LINE_HEIGHT * (len(texts) - 1) + (4 if len(texts) > 1 else 0)
        node = Node(("state", state), Kind.STATE, self._layer(state), width, height, tuple(texts), (), state)
        self.nodes[node.key] = node

    def _add_start(self) -> None:
        key = ("start",)
        self.nodes[key] = Node(key, Kind.START, self._layer(self.table.initial) - 1, 12, 12)
        self._link(key, ("state", self.table.initial), (), (), "right")

    def _add_every(self, arrow: EveryArrow) -> None:
        heading = [Text(line, "source") for line in wrapped(shown(arrow.source), 30)]
        key = ("every", *map(self.table.rows.index, arrow.rows))
        self._add_label(key, arrow.target, -1, (*heading, *self._texts(arrow.rows)), arrow.rows)
        sources = {state for row in arrow.rows for state in row.sources}
        self._link(key, ("state", arrow.target), sources, arrow.rows, "right")

    def _add_forward(self, arrow: Arrow) -> None:
        sources = self._sources(arrow, is_forward=True)
        if not sources:
            return
        key = ("forward", *map(self.table.rows.index, arrow.rows))
        self._add_label(key, arrow.target, -1, self._texts(arrow.rows), arrow.rows)
        self._link(key, ("state", arrow.target), sources, arrow.rows, "right")
        if self._is_shared(sources):
            self._link(self._junction(sources), key, sources, arrow.rows)
        else:
            for source in sources:
                self._link(("state", source), key, (source,), arrow.rows)

    def _add_backward(self, arrow: Arrow) -> None:
        sources = self._sources(arrow, is_forward=False)
        if not sources:
            return
        key = ("backward", *map(self.table.rows.index, arrow.rows))
        self._add_label(key, arrow.target, _LAYERS_PER_RANK - 1, self._texts(arrow.rows), arrow.rows)
        self._link(("state", arrow.target), key, sources, arrow.rows, "left")
        for source in sources:
            self._link(key, ("state", source), (source,), arrow.rows)

    def _junction(self, sources: tuple[str, ...]) -> tuple[object, ...]:
        """The node where the lines of these states meet."""
        key = ("junction", *sources)
        if key not in self.nodes:
            layer = max(map(self._layer, sources)) + 1
            self.nodes[key] = Node(key, Kind.JUNCTION, layer, 8, 8)
            arrows = [one for one in self.arrows.single if self._sources(one, is_forward=True) == sources]
            for source in sources:
                self._link(("state", source), key, (source,), [row for one in arrows for row in one.rows])
        return key

    def _add_label(
        self, key: tuple[object, ...], target: str, beside: int, texts: tuple[Text, ...], rows: Iterable[Row]
    ) -> None:
        width = max(width_of(one.text, LABEL_SIZE) for one in texts) + 16
        height = LINE_HEIGHT * len(texts) + 8
        layer = self._layer(target) + beside
        self.nodes[key] = Node(key, Kind.LABEL, layer, width, height, texts, self._indices(rows), target)

    def _link(
        self,
        left: tuple[object, ...],
        right: tuple[object, ...],
        sources: Iterable[str],
        rows: Iterable[Row],
        points_to: str = "",
    ) -> None:
        """Add a line. The lines to one label or junction share their bends."""
        trunk = left if left[0] == "backward" else right if right[0] in ("forward", "junction") else (*left, *right)
        self.links.append(_Link(left, right, trunk, frozenset(sources), self._indices(rows), points_to))

    def _pieces(self) -> tuple[Piece, ...]:
        """The lines in pieces, with a bend in each layer that one passes."""
        used = sorted({node.layer for node in self.nodes.values()})
        pieces: dict[tuple[object, object], Piece] = {}
        for link in self.links:
            left, right = self.nodes[link.left], self.nodes[link.right]
            stops = [left]
            stops += [self._bend(link.trunk, layer) for layer in used if left.layer < layer < right.layer]
            stops.append(right)
            for one, other in pairwise(stops):
                is_end = (one is left and link.points_to == "left") or (other is right and link.points_to == "right")
                piece = Piece(one, other, link.sources, link.rows, link.points_to if is_end else "")
                pieces[one.key, other.key] = _both(pieces.get((one.key, other.key)), piece)
        return tuple(pieces.values())

    def _bend(self, trunk: tuple[object, ...], layer: int) -> Node:
        key = ("bend", layer, *trunk)
        return self.nodes.setdefault(key, Node(key, Kind.BEND, layer, 0, 4))

    def _texts(self, rows: Iterable[Row]) -> tuple[Text, ...]:
        texts: list[Text] = []
        for row in rows:
            index = (self.table.rows.index(row),)
            texts.append(Text(str(row.trigger), "trigger", index))
            if row.guard:
                texts.append(Text(f"[{row.guard}]", "guard", index))
        return tuple(texts)

    def _sources(self, arrow: Arrow, *, is_forward: bool) -> tuple[str, ...]:
        """Those sources of an arrow that are to the left of its target, or those to the right."""
        place = self.ranks[arrow.target]
        return tuple(source for source in arrow.sources if (self.ranks[source] < place) is is_forward)

    def _is_shared(self, sources: tuple[str, ...]) -> bool:
        """Whether several arrows lead forward from exactly these states."""
        same = [one for one in self.arrows.single if self._sources(one, is_forward=True) == sources]
        return len(sources) > 1 and len(same) > 1

    def _layer(self, state: str) -> int:
        return self.ranks[state] * _LAYERS_PER_RANK

    def _indices(self, rows: Iterable[Row]) -> tuple[int, ...]:
        return tuple(map(self.table.rows.index, rows))


def _both(one: Piece | None, other: Piece) -> Piece:
    """A piece of two lines that share it."""
    if one is None:
        return other
    rows = tuple(dict.fromkeys((*one.rows, *other.rows)))
    return Piece(one.left, one.right, one.sources | other.sources, rows, one.points_to or other.points_to)


def _with_room_for_lines(graph: Graph) -> Graph:
    """Make the states high enough for the lines that touch them."""
    pieces = graph.pieces
    taller: dict[tuple[object, ...], Node] = {}
    for node in graph.nodes:
        right = sum(piece.left.key == node.key for piece in pieces)
        left = sum(piece.right.key == node.key for piece in pieces)
        height = node.height
        if node.kind is Kind.STATE:
            height = max(height, PORT_DISTANCE * (max(left, right) - 1) + 2 * CORNER)
        taller[node.key] = msgspec.structs.replace(node, height=height + height % 2)
    return Graph(
        graph.initial,
        tuple(taller.values()),
        tuple(
            msgspec.structs.replace(piece, left=taller[piece.left.key], right=taller[piece.right.key])
            for piece in pieces
        ),
    )
