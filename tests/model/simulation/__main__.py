"""Replay a history: `python -m simulation SEED`; play many: `python -m simulation FIRST COUNT`."""

import sys

from simulation.campaign import timed_campaign
from simulation.history import History
from simulation.ledger import Violation


def main(arguments: list[str]) -> int:
    """Print what happened. The exit status is 1 where a promise was broken."""
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
