"""3000 histories of many processes on one store: none breaks a promise, and a seed always gives the same history.

A history that fails prints its timeline. `python -m model.simulation SEED` in `tests/` replays it.
"""

from itertools import count

import pytest
from model.simulation import issuer
from model.simulation.campaign import in_workers, play, play_all, timed_campaign, write_figures
from model.simulation.ledger import Fate

from authstate.adapters.testing import tokens

SEEDS = range(6_000, 9_000)
HAPPENED = (
    *("kills", "power cuts", "terminations", "cancelled callers", "stalls", "disk faults", "network faults"),
    *("refreshes", "tokens for leased children", "tokens for children with the login"),
    *("histories that end signed in", "histories that end with a lost login"),
    *(
        f"lost: {fate}"
        for fate in (
            Fate.LOST_BY_NETWORK,
            Fate.CRASHED_BEFORE_ANSWER,
            Fate.CRASHED_BEFORE_RENAME,
            Fate.POWER_BEFORE_SYNC,
            Fate.REFUSED_BY_DISK,
            Fate.GRACE_RAN_OUT,
        )
    ),
)


@pytest.mark.timeout(600)
def test_no_history_breaks_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    result, seconds = timed_campaign(SEEDS)
    with capsys.disabled():
        print()
        write_figures("simulation", {**result.counts, "seconds": round(seconds, 1), "violations": len(result.failures)})
    assert not result.failures, f"seed {result.failures[0][0]}: {result.failures[0][1]}"
    assert result.counts["seeds"] == len(SEEDS)
    assert [what for what in HAPPENED if not result.counts[what]] == []


def test_a_seed_is_the_same_history_here_and_in_another_process() -> None:
    seeds = range(7_000, 7_040)
    here = play_all(seeds)
    [there] = in_workers(play_all, seeds)
    assert (here.digest, here.counts) == (there.digest, there.counts)
    assert here.digest != play_all(range(7_040, 7_080)).digest


def test_a_history_does_not_depend_on_how_many_tokens_were_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What remains of a file after a power cut depends on its length, and so on the numbers in its tokens."""
    digests = set()
    for first in (1, 1_000_000):
        monkeypatch.setattr(tokens, "_numbers", count(first))
        issuer._tokens.cache_clear()
        digests.add(play_all(range(7_000, 7_040)).digest)
    assert len(digests) == 1


def test_a_timeline_tells_step_time_process_and_what_happened() -> None:
    lines = play(12).timeline.render().splitlines()
    assert lines[0].split() == ["step", "time", "process", "what"]
    assert len(lines) > 20
    assert any("sends rt-1.0" in line for line in lines)
