"""The table of a browser login: every state and trigger, against a table that was written by hand."""

import asyncio

import pytest

from authstate.adapters.oauth.browser_progress import BROWSER_LOGIN_TABLE, BrowserProgress

EXPECTED = {
    "waiting": {"browser_returned": "exchanging", "address_pasted": "unattended", "attempt_ended": "ended"},
    "exchanging": {"port_wanted": "unattended", "settled": "settled"},
    "unattended": {"settled": "closed"},
    "settled": {"page_shown": "closed", "port_wanted": "closed", "linger_over": "closed"},
    "ended": {},
    "closed": {},
}


def test_the_table_has_these_states_and_ends() -> None:
    assert set(BROWSER_LOGIN_TABLE.states) == set(EXPECTED)
    assert BROWSER_LOGIN_TABLE.finals == ("ended", "closed")


@pytest.mark.parametrize("trigger", BROWSER_LOGIN_TABLE.triggers)
@pytest.mark.parametrize("state", EXPECTED)
async def test_every_cell(state: str, trigger: str) -> None:
    progress = BrowserProgress()
    progress.state = state
    target = EXPECTED[state].get(trigger)
    assert progress.fire(trigger) is (target is not None)
    assert progress.state == (target or state)
    assert progress.is_over is (progress.state in ("settled", "ended", "closed"))


async def test_whoever_waits_for_the_outcome_learns_of_it() -> None:
    progress = BrowserProgress()
    waiting = asyncio.create_task(progress.until_over())
    await asyncio.sleep(0)
    progress.fire("browser_returned")
    await asyncio.sleep(0)
    assert not waiting.done()
    progress.fire("settled")
    await waiting


async def test_the_last_page_is_kept_until_it_is_fetched_or_its_time_is_over() -> None:
    for end in ("page_shown", "port_wanted"):
        progress = BrowserProgress()
        progress.state = "settled"
        waiting = asyncio.create_task(progress.until_shown(60))
        await asyncio.sleep(0)
        progress.fire(end)
        await waiting
        assert progress.state == "closed"
    progress = BrowserProgress()
    progress.state = "settled"
    await progress.until_shown(0)
    assert progress.state == "closed"


@pytest.mark.parametrize("state", [state for state in EXPECTED if state != "settled"])
async def test_nothing_is_waited_for_where_no_page_is_to_be_shown(state: str) -> None:
    progress = BrowserProgress()
    progress.state = state
    await progress.until_shown(60)
    assert progress.state == state
