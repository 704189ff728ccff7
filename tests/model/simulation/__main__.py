"""Run it in `tests/`. Replay a history: `python -m model.simulation SEED`. Play many of them:
`python -m model.simulation FIRST COUNT`. Play every history of the small scopes: `python -m model.simulation every`.
"""

import sys
import time

from model.simulation.campaign import enumerated
from model.simulation.history import History
from model.simulation.ledger import Violation
from model.simulation.replay import replay_or_play


def main(arguments: list[str]) -> int:
    """Print what happened. The exit status is 1 where a promise was broken."""
    if arguments == ["every"]:
        return play_every()
    return replay_or_play([int(argument) for argument in arguments], History)


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
