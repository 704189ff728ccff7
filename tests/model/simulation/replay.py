"""Replays the history of one seed, or plays those of many seeds, for a person."""

from collections.abc import Callable, Sequence

from model.simulation.campaign import Playable, timed_campaign
from model.simulation.ledger import Violation


def replay_or_play(numbers: Sequence[int], kind: Callable[[int], Playable]) -> int:
    """Print what happened. Returns the exit status: 1 where a promise was broken.

    Args:
        numbers: a seed, or the first one and how many.
        kind: makes the history of a seed.
    """
    if len(numbers) == 1:
        history = kind(numbers[0])
        try:
            history.play()
        except Violation as violation:
            print(violation)
            return 1
        print(history.timeline.render(last=100_000))
        return 0
    first, count = numbers
    result, seconds = timed_campaign(range(first, first + count), kind)
    print(f"{seconds:.1f} s", *(f"{name}: {number}" for name, number in sorted(result.counts.items())), sep="\n")
    for seed, why in result.failures[:10]:
        print(f"seed {seed}: {why.splitlines()[0]}")
    return 1 if result.failures else 0
