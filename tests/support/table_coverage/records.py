"""Reads what the processes of a run recorded, and what is committed of it: which test files hold each cell."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from support.paths import OUTPUT, REPO, TESTS
from support.table_coverage.cells import Cell, all_cells
from support.table_coverage.recorder import HAND, SEPARATOR, digest_of

from authstate.engine.machines.table import Table

UNIT, MODEL, PROCESS = KINDS = ("unit", "model", "process")
_KINDS_BY_FOLDER = {
    "unit": {"tests": UNIT, "child": PROCESS},
    "repository": {"tests": UNIT, "child": PROCESS},
    "model": {"tests": MODEL, "child": MODEL},
}
"""Folder of the test file, and where the trigger was fired: in the process of the tests, or in one that they started.
In the other folders, everything is about real processes. The workers of a model run the model."""
COMMITTED = REPO / "diagrams" / "coverage.json"
LAST_RUN = OUTPUT / "table-coverage.json"


class Use(msgspec.Struct, frozen=True, order=True):
    """Who exercised a cell: a test file, relative to `tests/`, with a kind of test, through the owner or by hand."""

    kind: str
    file: str
    by_hand: bool


Uses = dict[Cell, Counter[Use]]
"""How often each cell was exercised by whom."""


class HeldCell(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cell in diagrams/coverage.json."""

    state: str
    trigger: str
    outcome: str
    held_by: dict[str, list[str]]
    """The test files of each kind, sorted. Those that move the machine by hand only where no other does."""
    by_hand: bool = False
    """Only tests that move the machine by hand exercise it, because no code of authstate reaches it."""


Coverage = dict[str, list[HeldCell]]
"""The cells of each table."""


class LastRun(msgspec.Struct, frozen=True):
    """What the plugin leaves for the command."""

    is_whole: bool
    """Whether it was a run of the whole suite."""
    tables: Coverage


def read_run(folder: Path, tables: Sequence[Table]) -> Uses:
    """Read all that the processes of a run recorded. A table that is none of these is not counted."""
    digests = {(digest_of(table), table.name) for table in tables}
    uses: Uses = defaultdict(Counter)
    for path in folder.glob("*/*"):
        kind = path.suffix.lstrip(".")
        if kind in ("tests", "child"):
            file = path.parent.name.replace(SEPARATOR, "/")
            by_place = _KINDS_BY_FOLDER.get(file.partition("/")[0], {})
            for digest, cell, by_hand, count in _lines(path):
                if (digest, cell.table) in digests:
                    uses[cell][Use(by_place.get(kind, PROCESS), file, by_hand)] += count
    return uses


def _lines(path: Path) -> Iterator[tuple[str, Cell, bool, int]]:
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n") and line.count("\t") == 6:  # a process may have been killed while it wrote
            digest, table, state, trigger, outcome, by, count = line.split("\t")
            yield digest, Cell(table, state, trigger, outcome), by == HAND, int(count)


def coverage_of(uses: Mapping[Cell, Iterable[Use]], tables: Sequence[Table]) -> Coverage:
    """Which test files hold each cell."""
    found: Coverage = {}
    for cell in all_cells(tables):
        chosen = holders(uses.get(cell, ()))
        held_by = {kind: sorted({use.file for use in chosen if use.kind == kind}) for kind in KINDS}
        by_hand = any(use.by_hand for use in chosen)
        found.setdefault(cell.table, []).append(HeldCell(cell.state, cell.trigger, cell.outcome, held_by, by_hand))
    return found


def holders(uses: Iterable[Use]) -> list[Use]:
    """Those that exercise a cell through its owner or, if there are none, by hand."""
    every = list(uses)
    return [use for use in every if not use.by_hand] or every


def uses_of(coverage: Coverage) -> dict[Cell, set[Use]]:
    """The other way round: who holds each cell. Test files that are gone hold nothing."""
    found: dict[Cell, set[Use]] = {}
    for table, cells in coverage.items():
        for held in cells:
            cell = Cell(table, held.state, held.trigger, held.outcome)
            found[cell] = {
                Use(kind, file, held.by_hand)
                for kind, files in held.held_by.items()
                for file in files
                if (TESTS / file).is_file()
            }
    return found


def merged(one: Coverage, other: Coverage, tables: Sequence[Table]) -> Coverage:
    """What both hold together."""
    uses, more = uses_of(one), uses_of(other)
    return coverage_of({cell: uses.get(cell, set()) | more.get(cell, set()) for cell in {*uses, *more}}, tables)


def encode_run(run: LastRun) -> bytes:
    """What the plugin leaves for the command."""
    return msgspec.json.encode(run)


def encode(coverage: Coverage) -> str:
    """JSON as it is committed: a cell a line, so that a change is legible."""
    tables = msgspec.to_builtins(coverage)
    parts = (
        f" {msgspec.json.encode(name).decode()}: [\n"
        + ",\n".join("  " + msgspec.json.encode(cell).decode() for cell in cells)
        + "\n ]"
        for name, cells in tables.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def decode(text: str) -> Coverage:
    """The contrary of `encode`. Raises msgspec.ValidationError."""
    return msgspec.json.decode(text, type=Coverage)
