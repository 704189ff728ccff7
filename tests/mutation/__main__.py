"""The command: see the package's docstring."""

import argparse
import hashlib
import os
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from support.paths import REPO

from mutation.operators import Mutant, lines_of_use, mutants_of
from mutation.patch import fits
from mutation.selection import Reach, Selection
from mutation.trial import Fate, Outcome, Pool, Trial, run_cold, run_warm

EQUIVALENT = Path(__file__).with_name("equivalent.toml")
_CONTROL = "control"
_TESTS = ("tests/unit", "tests/model/test_relay.py")
_LEFT_OUT = ("tests/repository/test_source_tree.py", "tests/repository/test_docs_code_blocks.py")
_OF_DEFINITIONS = "tests/unit/engine/test_struct_defaults.py"
"""Tests that look at definitions and run no line of them: they are for every mutant that only the import runs."""


def main() -> int:
    """Run the mutants of the named files and folders. Exit status 0 when `--at-least` is reached, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m mutation", description="Mutation testing: see the docs.")
    parser.add_argument("places", nargs="+", help="files or folders, relative to the repository")
    parser.add_argument("--most", type=int, default=10_000, help="mutants a file: a sample that stays the same")
    parser.add_argument("--only", default="", help="mutants whose name holds this")
    parser.add_argument("--at-least", type=float, default=0.0, metavar="PERCENT", help="fail below this")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--keep", type=Path, help="folder for the figures of the first run: used again the next time")
    options = parser.parse_args()
    files = [file for place in options.places for file in _files(REPO / place)]
    known = _equivalent()
    chosen = {file: _sample(file, options.most, options.only, known) for file in files}
    print(
        f"{sum(map(len, chosen.values()))} mutants of {len(files)} files; one run of the tests without any comes first"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        tests = [*_TESTS, *(f"--ignore={name}" for name in _LEFT_OUT)]
        selection = Selection(tests, REPO, folder)
        selection.measure(("authstate.engine", "authstate.adapters"))
        fates: Counter[Fate] = Counter()

        broken: list[Outcome] = []

        def report(outcome: Outcome) -> None:
            if outcome.mutant.name == _CONTROL:
                broken.extend([outcome] if outcome.fate is not Fate.SURVIVED else [])
                return
            fates[outcome.fate] += 1
            if outcome.fate is Fate.SURVIVED:
                print(f"survived  line {outcome.mutant.line}: {outcome.mutant.name}", flush=True)

        trials = [
            trial for file, mutants in chosen.items() for trial in _trials(mutants, selection.reach(file), selection)
        ]
        print(
            f"{sum(trial.is_warm for trial in trials)} change what is called, the others what is imported", flush=True
        )
        trials = [*_controls(trials, selection), *trials]
        pool = Pool(options.at_once, report)
        try:
            run_cold((trial for trial in trials if not trial.is_warm), REPO, pool)
            run_warm((trial for trial in trials if trial.is_warm), tests, REPO, pool)
        except KeyboardInterrupt:
            print(f"stopped: {sum(fates.values())} of {len(trials)} were run")
    if broken:
        sys.exit("the tests fail in a forked process without any mutant, so no mutant says anything")
    total = sum(fates.values())
    noticed = 100.0 * (total - fates[Fate.SURVIVED]) / total if total else 100.0
    print(f"{total - fates[Fate.SURVIVED]} of {total} mutants noticed ({noticed:.1f} %), {fates[Fate.HUNG]} by hanging")
    return 0 if noticed >= options.at_least else 1


def _files(place: Path) -> list[Path]:
    if not place.exists():
        sys.exit(f"{place}: no such file or folder")
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _equivalent() -> frozenset[str]:
    with EQUIVALENT.open("rb") as file:
        return frozenset(entry["mutant"] for entry in tomllib.load(file).get("equivalent", []))


def _sample(file: Path, most: int, only: str, known: frozenset[str]) -> list[Mutant]:
    """At most so many mutants of a file, chosen by their names, so that a change elsewhere chooses no others."""
    found = [mutant for mutant in mutants_of(file, REPO) if mutant.name not in known and only in mutant.name]
    chosen = sorted(found, key=lambda mutant: hashlib.sha256(mutant.name.encode()).digest())[:most]
    return sorted(chosen, key=lambda mutant: mutant.line)


def _controls(trials: list[Trial], selection: Selection) -> Iterator[Trial]:
    """A trial of the unchanged code for each way to run one: its tests must pass."""
    for is_warm in (False, True):
        alike = [trial for trial in trials if trial.is_warm is is_warm]
        if alike:
            mutant = alike[0].mutant
            original = mutant._replace(name=_CONTROL, source=mutant.path.read_text(encoding="utf-8"))
            tests = dict.fromkeys(test for turn in zip_longest(*(trial.tests for trial in alike)) for test in turn)
            yield Trial(original, selection.affordable([test for test in tests if test]), is_warm)


def _trials(mutants: list[Mutant], reach: Reach, selection: Selection) -> Iterator[Trial]:
    """Each mutant with its tests; for a definition, those that reach a line which uses it, then those of the file."""
    for mutant in mutants:
        tests = reach.of(range(mutant.line, mutant.last_line + 1))
        if tests:
            is_warm = mutant.is_in_function and fits(mutant)
            yield Trial(mutant, selection.affordable(tests), is_warm)
        else:
            used = reach.of(lines_of_use(mutant.path.read_text(encoding="utf-8"), mutant.line))
            chosen = selection.affordable(list(dict.fromkeys([*used, *reach.anywhere])))
            yield Trial(mutant, [_OF_DEFINITIONS, *chosen], is_warm=False)


if __name__ == "__main__":
    sys.exit(main())
