"""Many machines on one database: none of 20,000 histories breaks a promise, and each guarantee is needed.

A history that fails prints its timeline. `python -m model.machines SEED` in `tests/` replays it.
"""

from functools import partial

import pytest
from model.machines.history import MachinesHistory
from model.machines.mutants import MUTANTS, mutated
from model.simulation.campaign import play_all, timed_campaign, write_figures
from model.simulation.ledger import Fate, Violation

FAILS_OVER = partial(MachinesHistory, fails_over=True)
HAPPENED = (
    *("kills", "pauses", "partitions", "lost statements", "crashes of the database", "cancelled callers"),
    *("terminations", "network faults", "refreshes", "holds that were taken over"),
    *("sent after a pause between check and write", "histories that end signed in"),
    *("histories that end with a lost login", f"lost: {Fate.HELD_TOO_LONG}"),
)
NOTICED_BY = {
    "no claim": "which nobody claimed",
    "no hold": "holds the row",
    "no compare-and-swap": "holds the row|and it is stored|forgets that|came back",
    "no deadline": "holds the row",
    "settle whatever the generation": "and it is stored|came back",
    "a doubt is sent at once": "its access token is usable",
    "a token is dead by what was read long ago": "and it is stored",
}


@pytest.mark.timeout(900)
def test_no_history_breaks_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    result, seconds = timed_campaign(range(20_000), MachinesHistory)
    with capsys.disabled():
        print()
        write_figures("machines", {**result.counts, "seconds": round(seconds, 1), "violations": len(result.failures)})
    assert not result.failures, f"seed {result.failures[0][0]}: {result.failures[0][1]}"
    assert [what for what in HAPPENED if not result.counts[what]] == []


def test_a_failover_ends_in_a_typed_state(capsys: pytest.CaptureFixture[str]) -> None:
    """A standby that lags behind loses what was settled last: a login may be lost, and everybody is told."""
    result, _ = timed_campaign(range(20_000, 22_000), FAILS_OVER)
    assert not result.failures, f"seed {result.failures[0][0]}: {result.failures[0][1]}"
    assert result.counts["failovers that lost commits"] > 0
    assert result.counts[f"lost: {Fate.FAILED_OVER}"] > 0


def test_a_seed_is_the_same_history_each_time() -> None:
    seeds = range(100, 140)
    assert play_all(seeds, MachinesHistory).digest == play_all(seeds, MachinesHistory).digest
    assert play_all(seeds, MachinesHistory).digest != play_all(range(140, 180), MachinesHistory).digest


@pytest.mark.uncounted
@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_notices(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with mutated(name):
        for seed in range(1_000):
            try:
                MachinesHistory(seed).play()
            except Violation as violation:
                why = str(violation).splitlines()[0]
                if any(expected in why for expected in NOTICED_BY[name].split("|")):
                    with capsys.disabled():
                        print(f"\n{name}: seed {seed}: {why}")
                    return
    raise AssertionError(f"{name}: a thousand histories, and none broke the promise: {NOTICED_BY[name]}")
