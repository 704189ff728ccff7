"""Histories of the simulations, replayed over the tables from what their processes told.

Run it in `tests/`: `python -m model.replayed FIRST COUNT`, with `--machines` first for those on a database.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

from model.machines.history import MachinesHistory
from model.simulation.campaign import Result, in_workers
from model.simulation.history import History
from model.simulation.ledger import Violation

from authstate.adapters.journal.lines import Line
from authstate.adapters.report.replay import replay


class Told(Protocol):
    """A history with a journal."""

    def play(self) -> None:
        """Run it to its end. Raises Violation."""

    def lines(self) -> Iterator[Line]:
        """The journal of all processes, as far as they got."""
        ...


def replayed(seeds: Iterable[int], kind: Callable[[int], Told] = History) -> Result:
    """Play and replay histories. The failures are those that the replay refused."""
    counts: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    for seed in seeds:
        lines = _told(kind, seed)
        counts["lines"] += len(lines)
        counts["histories"] += 1
        if (first := replay(lines).first) is not None:
            failures.append((seed, f"{first.rule}: {first.why}"))
    return Result(counts, failures, "")


def first_refused(kind: Callable[[int], Told], seeds: Iterable[int], rules: Sequence[str]) -> str | None:
    """Return the rule by which the first of these histories is refused. None if none is refused by one of these."""
    for seed in seeds:
        for refusal in replay(_told(kind, seed)).refusals:
            if refusal.rule in rules:
                return refusal.rule
    return None


def _told(kind: Callable[[int], Told], seed: int) -> list[Line]:
    history = kind(seed)
    try:
        history.play()
    except Violation:
        return list(history.lines())  # of a mutant: as far as it got
    return list(history.lines())


def main(arguments: list[str]) -> int:
    """Print how many lines were replayed, and what was refused."""
    kind: Callable[[int], Told] = MachinesHistory if "--machines" in arguments else History
    first, count = (int(one) for one in arguments if one.isdecimal())
    results = in_workers(partial(replayed, kind=kind), range(first, first + count))
    failures = [failure for result in results for failure in result.failures]
    counts: Counter[str] = sum((result.counts for result in results), Counter())
    print(f"{counts['histories']} histories, {counts['lines']} lines, {len(failures)} refused")
    for seed, why in failures[:20]:
        print(f"seed {seed}: {why}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
