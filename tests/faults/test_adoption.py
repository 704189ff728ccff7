"""Adoptions and releases that are killed, or that meet refreshes and sign-ins of other processes."""

import sys

import pytest
from faults.reports import report_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes fork and get signals on Unix only")


@pytest.mark.timeout(600)
def test_a_kill_at_any_step_leaves_one_login_in_use() -> None:
    report = report_of("faults.adoption_sweep", "--kills", "60", name="adoption_sweep.json")
    assert report["faults"] == []
    assert all(steps > 20 for steps in report["steps"].values()), report["steps"]
    places = report["at_random"]["file"]
    assert set(places) == {"the refresh token in 1 places", "the refresh token in 2 places"}, (
        "some kills fell in between"
    )


def test_refreshes_beside_adoptions_and_releases_spend_no_token_twice() -> None:
    report = report_of("faults.adoption_races", "--seconds", "4", name="adoption_races.json")
    assert (report["refreshes_refused"], report["tokens_sent_twice"]) == (0, 0)
    assert (report["statuses"], report["last_login"], report["accounts"]) == ([0], "works", 1)
    told = report["told"]
    assert set(told) <= {"refreshed", *(f"{step}: {what}" for step in ("adopt", "release") for what in ENDS)}
    assert min(told["refreshed"], told["adopt: moved"], told["release: moved"]) > 0


@pytest.mark.parametrize("seed", [2, 4])
def test_codex_may_sign_in_and_out_without_the_lock_meanwhile(seed: int) -> None:
    report = report_of(
        *("faults.adoption_races", "--codex", "--seconds", "4", "--seed", str(seed)), name=f"adoption_codex_{seed}.json"
    )
    assert (report["refreshes_refused"], report["tokens_sent_twice"]) == (0, 0)
    assert report["statuses"] == [0]
    assert report["last_login"] in ("works", "nobody")


ENDS = ("moved", "nothing to do", "StoreBusy")
