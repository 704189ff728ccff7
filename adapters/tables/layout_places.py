"""Where the nodes and the lines of a picture are, in pixels.

In each layer, the nodes keep their order and a distance, and are otherwise as near as possible to the height of what
they are connected with.
"""

from collections.abc import Mapping, Sequence

import msgspec

from authstate.adapters.tables.layout_graph import CORNER, PORT_DISTANCE, Graph, Kind, Node, Piece
from authstate.adapters.tables.layout_order import Layers

Key = tuple[object, ...]

_SWEEPS = 60
_DISTANCES = {Kind.STATE: 14, Kind.LABEL: 5, Kind.JUNCTION: 6, Kind.BEND: 5, Kind.START: 6}
"""How far a node keeps others of its layer away. Two nodes add theirs."""
_STRAIGHT = {Kind.BEND: 4, Kind.LABEL: 2}
"""How much a line wants to be straight at a node of this kind. All others count as 1."""
_PULL = 0.05
"""How much a node wants to be on the height of the initial state, so that nothing is far off."""


class Places(msgspec.Struct, frozen=True):
    """What is where."""

    middles: Mapping[Key, int]
    """Of each node, how far down its middle is."""
    columns: Sequence[tuple[int, int]]
    """The left and the right edge of each layer."""
    ports: Mapping[tuple[Key, Key, Key], int]
    """How far down a piece, named by both of its nodes, touches one of them."""


def places_of(graph: Graph, layers: Layers) -> Places:
    """Return the places of everything. The smallest coordinate is 0 in both directions."""
    middles = _middles(graph, layers)
    top = min(middles[node.key] - node.height // 2 for node in graph.nodes)
    middles = {key: middle - top for key, middle in middles.items()}
    ports = _ports(graph, middles)
    return Places(middles, _columns(graph, layers, ports), ports)


def spread(wishes: Sequence[tuple[float, float]], distances: Sequence[int]) -> list[int]:
    """Place things in a row, each as near as possible to where it wants to be.

    Args:
        wishes: for each thing, where it wants to be and how much.
        distances: how far each thing is from the one before it, at least. The first is not used.

    Returns:
        the places, as whole numbers, in the same order.
    """
    offsets = [sum(distances[1 : index + 1]) for index in range(len(wishes))]
    blocks: list[tuple[float, float, int]] = []  # the sum of wishes, of weights, and how many things
    for (wish, weight), offset in zip(wishes, offsets, strict=True):
        block = ((wish - offset) * weight, weight, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] > block[0] / block[1]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    starts = [int(total / weight // 1) for total, weight, count in blocks for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]


def _middles(graph: Graph, layers: Layers) -> dict[Key, int]:
    """How far down each node is."""
    near: dict[Key, list[tuple[Key, int, bool]]] = {node.key: [] for node in graph.nodes}
    for piece in graph.pieces:
        weight = _STRAIGHT.get(piece.left.kind, 1) * _STRAIGHT.get(piece.right.kind, 1)
        near[piece.left.key].append((piece.right.key, weight, False))
        near[piece.right.key].append((piece.left.key, weight, True))
    centre = ("state", graph.initial)
    middles: dict[Key, int] = {}
    for layer in layers:
        middles |= dict(zip([node.key for node in layer], spread([(0, 1)] * len(layer), _gaps(layer)), strict=True))
    for sweep in range(_SWEEPS):
        to_right = sweep % 2 == 0
        for layer in layers if to_right else layers[::-1]:
            wishes = []
            for node in layer:
                known = [one for one in near[node.key] if sweep > 5 or one[2] is to_right]
                total = sum(weight for _, weight, _ in known) + _PULL
                wish = sum(middles[key] * weight for key, weight, _ in known) + middles[centre] * _PULL
                wishes.append((wish / total, total))
            middles |= dict(zip([node.key for node in layer], spread(wishes, _gaps(layer)), strict=True))
    return middles


def _gaps(layer: Sequence[Node]) -> list[int]:
    """How far each node of a layer is from the one before it, at least."""
    gaps = [0] * len(layer)
    for index in range(1, len(layer)):
        one, other = layer[index - 1], layer[index]
        gaps[index] = (one.height + other.height) // 2 + _DISTANCES[one.kind] + _DISTANCES[other.kind]
    return gaps


def _ports(graph: Graph, middles: Mapping[Key, int]) -> dict[tuple[Key, Key, Key], int]:
    """Where the pieces touch their nodes: the middle, but those of a state are spread along its side."""
    ports: dict[tuple[Key, Key, Key], int] = {}
    for node in graph.nodes:
        for touching in (
            [piece for piece in graph.pieces if piece.left.key == node.key],
            [piece for piece in graph.pieces if piece.right.key == node.key],
        ):
            touching.sort(key=lambda piece: middles[_other(piece, node).key])
            middle, reach = middles[node.key], node.height // 2 - CORNER
            if node.kind is Kind.STATE and touching:
                heights = _spread_within(
                    [middles[_other(piece, node).key] for piece in touching], middle - reach, middle + reach
                )
            else:
                heights = [middle] * len(touching)
            for piece, height in zip(touching, heights, strict=True):
                ports[piece.left.key, piece.right.key, node.key] = height
    return ports


def _spread_within(wishes: Sequence[int], top: int, bottom: int) -> list[int]:
    """Places for lines on the side of a state, which is high enough for all of them."""
    count = len(wishes)
    inside = [(float(min(max(wish, top), bottom)), 1.0) for wish in wishes]
    placed = spread(inside, [PORT_DISTANCE] * count)
    lowest = [min(place, bottom - PORT_DISTANCE * (count - 1 - index)) for index, place in enumerate(placed)]
    return [max(place, top + PORT_DISTANCE * index) for index, place in enumerate(lowest)]


def _other(piece: Piece, node: Node) -> Node:
    return piece.right if piece.left.key == node.key else piece.left


def _columns(graph: Graph, layers: Layers, ports: Mapping[tuple[Key, Key, Key], int]) -> list[tuple[int, int]]:
    """The edges of the layers. The gap between two is wider if lines rise or fall steeply in it."""
    columns: list[tuple[int, int]] = []
    left = 0
    for index, layer in enumerate(layers):
        right = left + max(node.width for node in layer)
        columns.append((left, right))
        pieces = [piece for piece in graph.pieces if piece.left.layer == layer[0].layer]
        steepest = max((_rise(piece, ports) for piece in pieces), default=0)
        is_last = index == len(layers) - 1
        left = right + (0 if is_last else 22 + min(40, steepest // 5))
    return columns


def _rise(piece: Piece, ports: Mapping[tuple[Key, Key, Key], int]) -> int:
    one, other = piece.left.key, piece.right.key
    return abs(ports[one, other, one] - ports[one, other, other])
