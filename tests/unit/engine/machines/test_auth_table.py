"""Every cell of state x trigger, against a table that was written by hand and not made from the running one."""

import pytest

from authstate.engine.machines.auth_state import AUTH_TABLE, AuthMachine
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import (
    AuthError,
    ExternalTokensActive,
    LoginMethodForbidden,
    ParentUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    TransitionRefused,
    WorkspaceForbidden,
)
from authstate.engine.model.events import Listeners, StateChanged
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.session import Failure, Session
from authstate.engine.model.states import AuthState, Trigger
from authstate.testing import make_external_tokens, make_tokens

EXPECTED = {
    "logged_out": {
        "use_api_key": "api_key",
        "complete_chatgpt_login": "chatgpt",
        "use_external_tokens": "external_tokens",
        "log_out": "logged_out",
        "credentials_refused": "logged_out",
        "tokens_refreshed": "refused",
        "refresh_rejected": "refused",
    },
    "api_key": {
        "use_api_key": "api_key",
        "complete_chatgpt_login": "chatgpt",
        "use_external_tokens": "external_tokens",
        "log_out": "logged_out",
        "credentials_refused": "logged_out",
        "tokens_refreshed": "refused",
        "refresh_rejected": "refused",
    },
    "chatgpt": {
        "use_api_key": "api_key",
        "complete_chatgpt_login": "chatgpt",
        "use_external_tokens": "external_tokens",
        "log_out": "logged_out",
        "credentials_refused": "logged_out",
        "tokens_refreshed": "chatgpt",
        "refresh_rejected": "refresh_dead",
    },
    "external_tokens": {
        "use_api_key": "external tokens active",
        "complete_chatgpt_login": "external tokens active",
        "use_external_tokens": "external_tokens",
        "log_out": "logged_out",
        "credentials_refused": "logged_out",
        "tokens_refreshed": "external_tokens",
        "refresh_rejected": "refused",
    },
    "refresh_dead": {
        "use_api_key": "api_key",
        "complete_chatgpt_login": "chatgpt",
        "use_external_tokens": "external_tokens",
        "log_out": "logged_out",
        "credentials_refused": "logged_out",
        "tokens_refreshed": "chatgpt",
        "refresh_rejected": "refused",
    },
}
CELLS = [(state, trigger, outcome) for state, row in EXPECTED.items() for trigger, outcome in row.items()]
ERRORS = {"refused": TransitionRefused, "external tokens active": ExternalTokensActive}
FAILURE = Failure("because", RefreshDeadReason.REVOKED)


def machine_in(state: str, policy: Policy | None = None) -> AuthMachine:
    """A machine that went to the state by its own transitions."""
    machine = AuthMachine(Policy(), Listeners())
    if state == "api_key":
        machine.fire(Trigger.USE_API_KEY, ApiKey.parse("sk-1"))
    if state in ("chatgpt", "refresh_dead"):
        machine.fire(Trigger.COMPLETE_CHATGPT_LOGIN, make_tokens())
    if state == "refresh_dead":
        machine.fire(Trigger.REFRESH_REJECTED, FAILURE)
    if state == "external_tokens":
        machine.fire(Trigger.USE_EXTERNAL_TOKENS, make_external_tokens())
    assert machine.session.state == machine.state == state
    machine.policy = policy or Policy()
    return machine


def offer_for(trigger: str, state: str) -> Credentials | Failure | None:
    if trigger == "tokens_refreshed":
        return make_external_tokens() if state == "external_tokens" else make_tokens()
    return {
        "use_api_key": ApiKey.parse("sk-2"),
        "complete_chatgpt_login": make_tokens(),
        "use_external_tokens": make_external_tokens(),
        "log_out": None,
        "credentials_refused": Failure("a policy"),
        "refresh_rejected": FAILURE,
    }[trigger]


def expected_session(trigger: str, before: Session, offer: object) -> tuple[object, object]:
    """The credentials and the failure after a trigger that was obeyed."""
    return {
        "log_out": (None, None),
        "credentials_refused": (None, offer),
        "refresh_rejected": (before.credentials, offer),
    }.get(trigger, (offer, None))


def test_the_expected_table_is_whole() -> None:
    assert set(EXPECTED) == set(AuthState) == set(AUTH_TABLE.states)
    assert all(set(row) == set(Trigger) == set(AUTH_TABLE.triggers) for row in EXPECTED.values())
    assert len(CELLS) == 35
    assert AUTH_TABLE.initial == "logged_out"
    assert AUTH_TABLE.finals == ()


@pytest.mark.parametrize(("state", "trigger", "outcome"), CELLS)
def test_every_cell(state: str, trigger: str, outcome: str) -> None:
    machine = machine_in(state)
    before = machine.session
    offer = offer_for(trigger, state)
    if outcome in ERRORS:
        with pytest.raises(TransitionRefused) as refusal:
            machine.fire(Trigger(trigger), offer)
        assert type(refusal.value) is ERRORS[outcome]
        assert (refusal.value.trigger, refusal.value.state) == (trigger, state)
        assert machine.session is before
        assert machine.state == state
    else:
        after = machine.fire(Trigger(trigger), offer)
        assert after is machine.session
        assert after.state == machine.state == outcome
        assert after.generation == before.generation + 1
        assert (after.credentials, after.failure) == expected_session(trigger, before, offer)


@pytest.mark.parametrize(("state", "trigger", "outcome"), CELLS)
def test_the_table_tells_the_same_target(state: str, trigger: str, outcome: str) -> None:
    assert AUTH_TABLE.target(state, trigger) == (None if outcome in ERRORS else outcome)


@pytest.mark.parametrize(("state", "trigger", "outcome"), CELLS)
def test_exactly_what_changes_is_told(state: str, trigger: str, outcome: str) -> None:
    listeners = Listeners()
    machine = machine_in(state)
    machine._listeners = listeners
    events: list[object] = []
    listeners.subscribe(events.append)
    before = machine.session
    try:
        machine.fire(Trigger(trigger), offer_for(trigger, state))
    except TransitionRefused:
        assert events == []
    else:
        assert events == [StateChanged(Trigger(trigger), before, machine.session)]


def refused_by(error: type[AuthError], machine: AuthMachine, trigger: Trigger, offer: Credentials) -> None:
    before = machine.session
    with pytest.raises(error) as refusal:
        machine.fire(trigger, offer)
    assert type(refusal.value) is error
    assert machine.session is before
    assert machine.state == before.state


@pytest.mark.parametrize("state", ["logged_out", "api_key", "chatgpt", "refresh_dead"])
def test_the_policy_guards_both_logins(state: str) -> None:
    only_chatgpt = Policy(forced_login_method=LoginMethod.CHATGPT, forced_workspaces=("org-7",))
    refused_by(LoginMethodForbidden, machine_in(state, only_chatgpt), Trigger.USE_API_KEY, ApiKey.parse("sk-2"))
    refused_by(WorkspaceForbidden, machine_in(state, only_chatgpt), Trigger.COMPLETE_CHATGPT_LOGIN, make_tokens())
    only_api = Policy(forced_login_method=LoginMethod.API)
    refused_by(LoginMethodForbidden, machine_in(state, only_api), Trigger.COMPLETE_CHATGPT_LOGIN, make_tokens())


@pytest.mark.parametrize("state", list(AuthState))
def test_the_policy_guards_external_tokens(state: str) -> None:
    elsewhere = Policy(forced_workspaces=("org-7",))
    refused_by(WorkspaceForbidden, machine_in(state, elsewhere), Trigger.USE_EXTERNAL_TOKENS, make_external_tokens())


@pytest.mark.parametrize("state", ["chatgpt", "refresh_dead"])
def test_refreshed_tokens_must_be_of_the_same_account(state: str) -> None:
    for other in (make_tokens(account_id="org-2"), make_tokens(user_id="user-2")):
        refused_by(PermanentRefreshError, machine_in(state), Trigger.TOKENS_REFRESHED, other)


def test_tokens_from_the_parent_must_be_of_the_same_workspace_and_permitted() -> None:
    machine = machine_in("external_tokens")
    refused_by(ParentUnavailable, machine, Trigger.TOKENS_REFRESHED, make_external_tokens(account_id="org-2"))
    machine.policy = Policy(forced_workspaces=("org-7",))
    refused_by(WorkspaceForbidden, machine, Trigger.TOKENS_REFRESHED, make_external_tokens())


def test_the_parent_may_name_a_workspace_where_none_was_known() -> None:
    machine = machine_in("logged_out")
    machine.fire(Trigger.USE_EXTERNAL_TOKENS, make_external_tokens(account_id=None))
    named = make_external_tokens(account_id="org-5")
    assert machine.fire(Trigger.TOKENS_REFRESHED, named).credentials is named
