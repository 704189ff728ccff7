"""Run it in `tests/`. Replay a history: `python -m model.machines SEED`. Play many of them:
`python -m model.machines FIRST COUNT`.

With `--failover` first, a standby that lags behind may take the place of the database.
"""

import sys
from functools import partial

from model.machines.history import MachinesHistory
from model.simulation.campaign import timed_campaign
from model.simulation.ledger import Violation


def main(arguments: list[str]) -> int:
    """Print what happened. The exit status is 1 where a promise was broken."""
    fails_over = arguments[:1] == ["--failover"]
    numbers = [int(argument) for argument in arguments[fails_over:]]
    if len(numbers) == 1:
        history = MachinesHistory(numbers[0], fails_over=fails_over)
        try:
            history.play()
        except Violation as violation:
            print(violation)
            return 1
        print(history.timeline.render(last=100_000))
        return 0
    first, count = numbers
    kind = partial(MachinesHistory, fails_over=fails_over)
    result, seconds = timed_campaign(range(first, first + count), kind)
    print(f"{seconds:.1f} s", *(f"{name}: {number}" for name, number in sorted(result.counts.items())), sep="\n")
    for seed, why in result.failures[:10]:
        print(f"seed {seed}: {why.splitlines()[0]}")
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
