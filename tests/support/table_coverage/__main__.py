"""Brings diagrams/coverage.* up to date after a run of tests: see the package's docstring."""

import sys
from pathlib import Path

import msgspec
from support.table_coverage.page import coverage_page
from support.table_coverage.picture import coverage_picture
from support.table_coverage.records import COMMITTED, LAST_RUN, Coverage, LastRun, decode, encode, merged, uses_of
from support.table_coverage.report import faults_of, stale

from authstate.adapters.cli.state_tables import TABLES


def files_of(coverage: Coverage) -> dict[str, str]:
    """The generated files: their names in diagrams/, and their texts."""
    return {
        "coverage.json": encode(coverage),
        "coverage.md": coverage_page(coverage, TABLES),
        "coverage.svg": coverage_picture(coverage, TABLES),
    }


def main(last_run: Path = LAST_RUN, committed: Path = COMMITTED) -> int:
    """Write the files. Exit status 1 if nothing was recorded, or if a cell is held by nobody afterwards."""
    try:
        run = msgspec.json.decode(last_run.read_bytes(), type=LastRun)
        known: Coverage = (
            {} if run.is_whole or not committed.exists() else decode(committed.read_text(encoding="utf-8"))
        )
    except FileNotFoundError:
        print(f"{last_run} does not exist: run the tests first", file=sys.stderr)
        return 1
    except msgspec.MsgspecError as error:
        print(f"{committed} or {last_run} is broken ({error}): remove it, and run the whole suite", file=sys.stderr)
        return 1
    coverage = merged(known, run.tables, TABLES)
    for name, text in files_of(coverage).items():
        (committed.parent / name).write_text(text, encoding="utf-8", newline="\n")
    uses = uses_of(coverage)
    faults = faults_of(uses, TABLES)
    faults += [f"{cell.table}: {cell} can be reached: remove it from only_by_hand.toml" for cell in stale(uses)]
    print(
        f"Wrote coverage.* to {committed.parent}, from a run of {'the whole suite' if run.is_whole else 'some tests'}."
    )
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
