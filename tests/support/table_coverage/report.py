"""What is printed at the end of a run of the whole suite, and what makes it fail."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from support.table_coverage.cells import Cell, all_cells, cells_of, reasons
from support.table_coverage.records import KINDS, Use, Uses, holders

from authstate.engine.machines.table import Table

_WIDTH = 118


def lines_of(uses: Uses, tables: Sequence[Table]) -> list[str]:
    """The report: for each table how many cells each kind of test exercised, how often, and which only one kind did."""
    lines = []
    for table in tables:
        held = {cell: holders(uses.get(cell, ())) for cell in cells_of(table)}
        firings = sum(count for cell in held for count in uses.get(cell, {}).values())
        by_kind = ", ".join(f"{kind} {sum(kind in kinds_of(found) for found in held.values())}" for kind in KINDS)
        exercised = sum(map(bool, held.values()))
        lines.append(f"{table.name}: {exercised} of {len(held)} exercised ({by_kind}), {firings:,} times")
        for kind in KINDS:
            alone = [cell for cell, found in held.items() if kinds_of(found) == {kind} and not _is_by_hand(found)]
            lines += _wrapped(f"only {kind}", alone)
        lines += _wrapped("only by hand", [cell for cell, found in held.items() if _is_by_hand(found)])
    lines += [f"note: {cell.table}: {cell} can be reached: remove it from only_by_hand.toml" for cell in stale(uses)]
    return lines


def faults_of(uses: Mapping[Cell, Iterable[Use]], tables: Sequence[Table]) -> list[str]:
    """Why the run fails: cells that no test exercises, and cells that only a test by hand does, without a reason."""
    explained = reasons()
    cells = all_cells(tables)
    faults = []
    for cell in cells:
        found = holders(uses.get(cell, ()))
        if not found:
            faults.append(f"{cell.table}: no test exercises {cell}")
        elif _is_by_hand(found) and cell not in explained:
            faults.append(
                f"{cell.table}: only {', '.join(sorted({use.file for use in found}))} exercises {cell}, by hand: "
                "reach it through its owner, or give the reason in only_by_hand.toml"
            )
    faults += [f"{cell.table}: only_by_hand.toml names {cell}, which is no cell" for cell in {*explained} - {*cells}]
    return faults


def stale(uses: Mapping[Cell, Iterable[Use]]) -> list[Cell]:
    """The cells with a reason that the code of authstate was seen to reach."""
    return [cell for cell in reasons() if any(not use.by_hand for use in uses.get(cell, ()))]


def kinds_of(found: Iterable[Use]) -> set[str]:
    """Which kinds of test they are."""
    return {use.kind for use in found}


def _is_by_hand(found: Sequence[Use]) -> bool:
    return bool(found) and found[0].by_hand


def _wrapped(title: str, cells: Sequence[Cell]) -> Iterator[str]:
    """The cells, those of one state and outcome together."""
    if cells:
        ordered = sorted(cells, key=lambda cell: (cell.outcome, cell.state))
        groups = [
            f"{state} × {', '.join(cell.trigger for cell in group)} ({outcome})"
            for (outcome, state), group in groupby(ordered, key=lambda cell: (cell.outcome, cell.state))
        ]
        text = f"{title} ({len(cells)}): {'; '.join(groups)}"
        yield from textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
