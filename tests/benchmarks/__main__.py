"""Compares authstate with its peers, and prints one table: `python -m benchmarks`, in `tests/`.

`--only GROUP` measures one group, `--rounds N` takes N samples of each contender, and `--json FILE` writes all samples.
The limits that authstate keeps by itself are in the tests of this folder: `--limits` runs them as well.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks import app_server_start, fresh_headers, http_auth, imports, storing
from benchmarks.comparison import Comparison
from support.paths import REPO


class Group(NamedTuple):
    """Benchmarks that are measured together."""

    measure: Callable[[int], list[Comparison]]
    rounds: int
    names: tuple[str, ...]
    """Those of its benchmarks. docs/benchmarks.md has each of them."""


GROUPS = {
    "headers": Group(fresh_headers.measure, 50, fresh_headers.NAMES),
    "http": Group(http_auth.measure, 50, http_auth.NAMES),
    "import": Group(imports.measure, 15, imports.NAMES),
    "store": Group(storing.measure, 100, storing.NAMES),
    "app-server": Group(app_server_start.measure, 21, app_server_start.NAMES),
}

_HEADER = ("benchmark", "contender", "median", "quartiles", "ratio")


def table(compared: Sequence[Comparison]) -> str:
    """The table in Markdown."""
    rows = [_HEADER, *((one.name, *row) for one in compared for row in one.rows())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def machine() -> str:
    """What was measured on, without a name of the machine."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, {python}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare authstate with its peers.")
    parser.add_argument("--only", choices=GROUPS, action="append", help="measure this group; may be given repeatedly")
    parser.add_argument("--rounds", type=int, help="samples of each contender")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to a file")
    parser.add_argument("--limits", action="store_true", help="also run the tests that hold limits")
    options = parser.parse_args(arguments)
    compared = []
    for name in options.only or GROUPS:
        group = GROUPS[name]
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        compared += group.measure(options.rounds or group.rounds)
    date = datetime.now(UTC).date().isoformat()
    print(f"{date}; {machine()}\n\n{table(compared)}")
    if options.json:
        found = {one.name: one.as_json() for one in compared}
        options.json.write_text(json.dumps({"date": date, "machine": machine(), "benchmarks": found}, indent=2) + "\n")
    if options.limits:
        return subprocess.run([sys.executable, "-m", "pytest", "tests/benchmarks", "-s"], cwd=REPO).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
