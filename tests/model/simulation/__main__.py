"""Run it in `tests/`. Replay a history: `python -m model.simulation SEED`. Play many of them:
`python -m model.simulation FIRST COUNT`. Play every history of the small scopes: `python -m model.simulation every`.
"""

import sys
import time

from model.simulation.campaign import enumerated, timed_campaign
from model.simulation.history import History
from model.simulation.ledger import Violation


def main(arguments: list[str]) -> int:
    """Print what happened. The exit status is 1 where a promise was broken."""
    if arguments == ["every"]:
        return play_every()
    numbers = [int(argument) for argument in arguments]
    if len(numbers) == 1:
        history = History(numbers[0])
        try:
            history.play()
        except Violation as violation:
            print(violation)
            return 1
        print(history.timeline.render(last=100_000))
        return 0
    first, count = numbers
    result, seconds = timed_campaign(range(first, first + count))
    print(f"{seconds:.1f} s", *(f"{name}: {number}" for name, number in sorted(result.counts.items())), sep="\n")
    for seed, why in result.failures[:10]:
        print(f"seed {seed}: {why.splitlines()[0]}")
    return 1 if result.failures else 0


def play_every() -> int:
    """Print how many histories there were, and what they came to."""
    began = time.perf_counter()
    try:
        for name, figures in enumerated().items():
            print(f"{name}:", *(f"    {what}: {figure}" for what, figure in figures.described().items()), sep="\n")
    except Violation as violation:
        print(violation)
        return 1
    print(f"{time.perf_counter() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
