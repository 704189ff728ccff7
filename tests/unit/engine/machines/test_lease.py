"""Leases: every cell of their table, their end by the clock, and whose tokens they yield."""

import pytest

from authstate.engine.machines.lease import LEASE_TABLE, Lease, LeaseState, LeaseTrigger
from authstate.engine.model.account import Account
from authstate.engine.model.errors import TransitionRefused

EXPECTED = {
    "active": {"expire": "expired", "end": "ended"},
    "expired": {"end": "ended"},
    "ended": {},
}


def a_lease(state: LeaseState = LeaseState.ACTIVE, expires_at: float | None = None) -> Lease:
    return Lease("ab12cd34", "00" * 32, "home", "org-1", "user-1", expires_at=expires_at, state=state)


@pytest.mark.parametrize("trigger", LeaseTrigger)
@pytest.mark.parametrize("state", LeaseState)
def test_every_cell_of_the_table(state: LeaseState, trigger: LeaseTrigger) -> None:
    before = a_lease(state)
    target = EXPECTED[state].get(trigger)
    assert LEASE_TABLE.target(state, trigger) == target
    if target is None:
        with pytest.raises(TransitionRefused):
            before.after(trigger)
        return
    after = before.after(trigger)
    assert after.state is LeaseState(target)
    assert (before.state, after.digest, after.account) == (state, before.digest, "home"), "only the state changes"


def test_the_table_has_nothing_else() -> None:
    assert (LEASE_TABLE.states, LEASE_TABLE.initial) == (tuple(EXPECTED), "active")
    assert LEASE_TABLE.triggers == tuple(LeaseTrigger)


def test_nothing_leads_back_to_a_lease_that_yields_tokens() -> None:
    reached = {row.target for row in LEASE_TABLE.rows}
    assert LeaseState.ACTIVE not in reached
    assert LEASE_TABLE.finals == (LeaseState.ENDED,)


@pytest.mark.parametrize(
    ("state", "expires_at", "now", "expected"),
    [
        ("active", 100.0, 99.999, "active"),
        ("active", 100.0, 100.0, "expired"),
        ("active", 100.0, 1e12, "expired"),
        ("active", None, 1e12, "active"),
        ("expired", 100.0, 0.0, "expired"),
        ("ended", 100.0, 1e12, "ended"),
        ("ended", None, 0.0, "ended"),
    ],
)
def test_a_lease_ends_with_its_time(state: str, expires_at: float | None, now: float, expected: str) -> None:
    assert a_lease(LeaseState(state), expires_at).at(now).state == expected


@pytest.mark.parametrize(
    ("workspace", "user", "expected"),
    [
        ("org-1", "user-1", True),
        ("org-1", None, True),
        ("org-1", "user-2", False),
        ("org-2", "user-1", False),
        (None, "user-1", False),
    ],
)
def test_a_lease_is_for_the_account_it_was_made_for(workspace: str | None, user: str | None, expected: bool) -> None:
    assert a_lease().is_for(Account(account_id=workspace, user_id=user)) is expected


def test_a_lease_that_names_nobody_is_for_an_account_that_names_nobody() -> None:
    lease = Lease("ab12cd34", "00" * 32, "home")
    assert lease.is_for(Account())
    assert not lease.is_for(Account(account_id="org-1"))
