"""The order of the nodes in each layer, with few lines that cross each other."""

from collections.abc import Sequence
from itertools import combinations

from authstate.adapters.tables.layout_graph import Graph, Node

_SWEEPS = 8

Layers = list[list[Node]]
"""The nodes from the left to the right, and in each layer from the top to the bottom."""
Ends = list[list[tuple[Node, Node]]]
"""The pieces between each layer and the next one."""


def ordered_layers(graph: Graph) -> Layers:
    """Return the nodes of a graph by layers, in the best order that was found. The same graph has the same order."""
    used = sorted({node.layer for node in graph.nodes})
    layers = [[node for node in graph.nodes if node.layer == layer] for layer in used]
    ends: Ends = [[] for _ in used]
    for piece in graph.pieces:
        ends[used.index(piece.left.layer)].append((piece.left, piece.right))
    best, fewest = layers, _crossings(layers, ends)
    for start in (layers, [layer[::-1] for layer in layers]):
        current = start
        for sweep in range(_SWEEPS):
            current = _swapped(_swept(current, ends, to_right=sweep % 2 == 1), ends)
            found = _crossings(current, ends)
            if found < fewest:
                best, fewest = current, found
            if not fewest:
                return best
    return best


def _swept(layers: Layers, ends: Ends, *, to_right: bool) -> Layers:
    """Put each node to the middle of its neighbours in the layer before."""
    result = [list(layer) for layer in layers]
    indices = range(1, len(result)) if to_right else range(len(result) - 2, -1, -1)
    for index in indices:
        before = result[index - 1 if to_right else index + 1]
        places = {node.key: place for place, node in enumerate(before)}
        pieces = ends[index - 1 if to_right else index]
        middles = []
        for place, node in enumerate(result[index]):
            near = [places[one.key] for one, other in _from(pieces, to_right) if other.key == node.key]
            middles.append((sum(near) / len(near) if near else float(place), place))
        result[index] = [result[index][place] for _, place in sorted(middles)]
    return result


def _from(pieces: Sequence[tuple[Node, Node]], to_right: bool) -> Sequence[tuple[Node, Node]]:
    return pieces if to_right else [(right, left) for left, right in pieces]


def _swapped(layers: Layers, ends: Ends) -> Layers:
    """Swap neighbours in a layer as long as that leaves fewer crossings."""
    result = [list(layer) for layer in layers]
    has_improved = True
    while has_improved:
        has_improved = False
        for index, layer in enumerate(result):
            for place in range(len(layer) - 1):
                before = _crossings_at(result, ends, index)
                layer[place], layer[place + 1] = layer[place + 1], layer[place]
                if _crossings_at(result, ends, index) < before:
                    has_improved = True
                else:
                    layer[place], layer[place + 1] = layer[place + 1], layer[place]
    return result


def _crossings(layers: Layers, ends: Ends) -> int:
    return sum(_crossings_between(layers, ends, index) for index in range(len(layers) - 1))


def _crossings_at(layers: Layers, ends: Ends, index: int) -> int:
    """The crossings on both sides of a layer."""
    return sum(_crossings_between(layers, ends, one) for one in (index - 1, index) if 0 <= one < len(layers) - 1)


def _crossings_between(layers: Layers, ends: Ends, index: int) -> int:
    left = {node.key: place for place, node in enumerate(layers[index])}
    right = {node.key: place for place, node in enumerate(layers[index + 1])}
    lines = [(left[one.key], right[other.key]) for one, other in ends[index]]
    return sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(lines, 2))
