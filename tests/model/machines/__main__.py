"""Run it in `tests/`. Replay a history: `python -m model.machines SEED`. Play many of them:
`python -m model.machines FIRST COUNT`.

With `--failover` first, a standby that lags behind may take the place of the database.
"""

import sys
from functools import partial

from model.machines.history import MachinesHistory
from model.simulation.replay import replay_or_play


def main(arguments: list[str]) -> int:
    """Print what happened. The exit status is 1 where a promise was broken."""
    fails_over = arguments[:1] == ["--failover"]
    numbers = [int(argument) for argument in arguments[fails_over:]]
    return replay_or_play(numbers, partial(MachinesHistory, fails_over=fails_over))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
