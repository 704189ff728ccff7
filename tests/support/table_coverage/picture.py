"""diagrams/coverage.svg: the coverage as a painted grid for each table."""

from collections.abc import Iterator, Sequence
from html import escape

from support.table_coverage.page import class_of, letters_of, outcome_text
from support.table_coverage.records import KINDS, Coverage, HeldCell

from authstate.engine.machines.table import Table

_LEFT, _HEADING, _GAP, _LEGEND = 118, 36, 26, 54
_LETTERS, _LETTER, _SMALL_LETTER = 30, 6.4, 5.2  # width of `UMP` with its margin, and of a letter of each size
_STYLE = """
  text { font: 10.5px system-ui, sans-serif; fill: #1f2328; }
  text.small { font-size: 8.5px; } text.title { font-weight: 600; font-size: 15px; }
  text.letters { font: 700 10px monospace; } .page { fill: #ffffff; }
  .all { fill: #b7e4c0; stroke: #2c8a43; } .two { fill: #c3dcf7; stroke: #2f6fb5; }
  .one { fill: #ffe0a3; stroke: #a15c00; stroke-width: 2.5; } .no-row { fill: #f3f4f6; stroke: #d0d7de; }
  .hand { fill: url(#hatched); stroke: #6e7781; stroke-dasharray: 3 3; }
  .none { fill: #ffc4c0; stroke: #b3261e; stroke-width: 3; }
  .stripe { stroke: #c9ced4; stroke-width: 4; } .under { fill: #f3f4f6; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f3f6; } .page { fill: #0d1117; }
    .all { fill: #17502a; stroke: #4ac26b; } .two { fill: #15406f; stroke: #6cb0f5; }
    .one { fill: #6b4100; stroke: #ffb84d; } .no-row { fill: #161b22; stroke: #30363d; }
    .none { fill: #7a1712; stroke: #ff8a80; } .stripe { stroke: #3b434c; } .under { fill: #21262d; }
  }
"""


def coverage_picture(coverage: Coverage, tables: Sequence[Table]) -> str:
    """The whole picture. Colour, border and letters each say how many kinds of test hold a cell."""
    grids = [_Grid(table, coverage[table.name]) for table in tables]
    width, parts, top = max(grid.width for grid in grids), list(_legend()), _LEGEND
    for grid in grids:
        parts += grid.drawn(top)
        top += grid.height
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" role="img">',
            "<title>Which kinds of test exercise each cell of the state tables</title>",
            f"<style>{_STYLE}</style>",
            '<defs><pattern id="hatched" width="8" height="8" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect class="under" width="8" height="8"/>'
            '<line class="stripe" x1="0" y1="0" x2="0" y2="8"/></pattern></defs>',
            f'<rect class="page" width="{width}" height="{top}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _legend() -> Iterator[str]:
    entries = (
        ("all", "UMP", "unit, model and process tests"),
        ("two", "U·P", "two kinds"),
        ("one", "U··", "one kind"),
        ("no-row", "U··", "no row"),
        ("hand", "U··", "no row, and moved by hand only"),
        ("none", "···", "nobody"),
    )
    left = 12
    for name, letters, meaning in entries:
        yield f'<rect class="{name}" x="{left}" y="16" width="34" height="20" rx="3"/>'
        yield f'<text class="letters" x="{left + 6}" y="30">{letters}</text>'
        yield f'<text x="{left + 40}" y="30">{meaning}</text>'
        left += 60 + 6 * len(meaning)


class _Grid:
    """The grid of one table. Its columns are as wide as its longest text."""

    def __init__(self, table: Table, cells: Sequence[HeldCell]) -> None:
        self._table = table
        self._cells = cells
        self._line = 40 if any(row.guard for row in table.rows) else 28
        longest = max(len(outcome_text(table, cell)) for cell in cells) * _SMALL_LETTER + _LETTERS
        heading = max(len(part) for trigger in table.triggers for part in _halves(trigger)) * _LETTER
        self._column = round(max(longest, heading)) + 6
        self.width = _LEFT + self._column * len(table.triggers) + 12
        self.height = _GAP + _HEADING + self._line * len(table.states) + 16

    def drawn(self, top: int) -> Iterator[str]:
        """The elements, from this height on."""
        yield f'<text class="title" x="12" y="{top + 14}">{escape(self._table.title)}</text>'
        top += _GAP
        for column, trigger in enumerate(self._table.triggers):
            for line, part in enumerate(reversed(_halves(trigger))):
                yield f'<text x="{_LEFT + column * self._column + 4}" y="{top + 27 - line * 13}">{part}</text>'
        top += _HEADING
        for number, state in enumerate(self._table.states):
            yield from self._state(state, top + number * self._line)

    def _state(self, state: str, top: int) -> Iterator[str]:
        yield f'<text x="12" y="{top + self._line / 2:.0f}">{state}</text>'
        for column, trigger in enumerate(self._table.triggers):
            found = [cell for cell in self._cells if (cell.state, cell.trigger) == (state, trigger)]
            height = (self._line - 4) / len(found)
            for place, cell in enumerate(found):
                yield self._box(cell, _LEFT + column * self._column, top + place * height, height - 1.5)

    def _box(self, cell: HeldCell, x: int, y: float, height: float) -> str:
        what = outcome_text(self._table, cell)
        kinds = ", ".join(kind for kind in KINDS if cell.held_by[kind]) or "nobody"
        hint = f"{cell.state} × {cell.trigger}: {what}. {'Only by hand' if cell.by_hand else kinds}"
        middle = y + height / 2 + 3.3
        return (
            f'<g><title>{escape(hint)}</title><rect class="{class_of(cell)}" x="{x}" y="{y:.1f}" '
            f'width="{self._column - 5}" height="{height:.1f}" rx="3"/>'
            f'<text class="letters" x="{x + 5}" y="{middle:.1f}">{letters_of(cell)}</text>'
            f'<text class="small" x="{x + _LETTERS}" y="{middle:.1f}">{escape(what)}</text></g>'
        )


def _halves(name: str) -> list[str]:
    """A long name in two lines, divided at the underscore nearest to its middle."""
    places = [place + 1 for place, letter in enumerate(name) if letter == "_"]
    if len(name) < 15 or not places:
        return [name]
    middle = min(places, key=lambda place: abs(place - len(name) / 2))
    return [name[:middle], name[middle:]]
