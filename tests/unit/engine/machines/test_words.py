"""The words beside the tables: each name has some, and the running machines raise and emit what they say."""

from collections.abc import Mapping
from typing import get_args

import pytest
from support.running_machines import MACHINES, refusal_of

import authstate
from authstate import testing
from authstate.adapters.child import token_push
from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.oauth.browser_login import LINGER
from authstate.adapters.oauth.browser_progress import BROWSER_LOGIN_WORDS
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.auth_state import AUTH_TABLE, AUTH_WORDS, AuthMachine
from authstate.engine.machines.login_attempt import LIFETIME_SECONDS, LOGIN_TABLE, LOGIN_WORDS, LoginFlow
from authstate.engine.machines.recovery import RECOVERY_WORDS
from authstate.engine.machines.table import Row, Table
from authstate.engine.machines.words import IGNORED, Words
from authstate.engine.model.credentials import ApiKey, Credentials, PersonalAccessToken
from authstate.engine.model.errors import AuthError
from authstate.engine.model.events import Event, Listeners
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.session import Failure, Session
from authstate.engine.model.states import AuthState, Trigger

_EXTERNAL, _TOKENS = testing.make_external_tokens(), testing.make_tokens()
_OFFERS: Mapping[str, tuple[Credentials | Failure | None, ...]] = {
    "use_api_key": (ApiKey.parse("sk-1"), PersonalAccessToken.parse("at-1")),
    "complete_chatgpt_login": (_TOKENS,),
    "use_external_tokens": (_EXTERNAL,),
    "log_out": (None,),
    "credentials_refused": (Failure("a policy"),),
    "refresh_rejected": (Failure("dead"),),
}
_REFRESHED: Mapping[str, tuple[Credentials, ...]] = {
    "external_tokens": (_EXTERNAL, testing.make_external_tokens(account_id="org-2")),
}
_OF_OTHERS = (_TOKENS, testing.make_tokens(account_id="org-2"))
_POLICIES = (Policy(), Policy(LoginMethod.API), Policy(LoginMethod.CHATGPT), Policy(forced_workspaces=("org-9",)))


def auth_machine(state: str, policy: Policy, listeners: Listeners) -> AuthMachine:
    machine = AuthMachine(policy, listeners)
    held = {"api_key": ApiKey.parse("sk-0"), "external_tokens": _EXTERNAL, "logged_out": None}.get(state, _TOKENS)
    machine.state, machine.session = state, Session(AuthState(state), held, None, 1)
    return machine


def offers(state: str, trigger: str) -> tuple[Credentials | Failure | None, ...]:
    return _REFRESHED.get(state, _OF_OTHERS) if trigger == "tokens_refreshed" else _OFFERS[trigger]


CELLS = [(table, state, trigger) for table in TABLES for state in table.states for trigger in table.triggers]


def test_every_table_has_words() -> None:
    assert list(TABLE_WORDS) == [table.name for table in TABLES]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_each_name_of_a_table_has_words_and_no_other_name_has(table: Table) -> None:
    words = TABLE_WORDS[table.name]
    assert list(words.states) == list(table.states)
    assert set(words.guards) == set(words.refusals) == {row.guard for row in table.rows} - {""}
    assert set(words.effects) == {row.effect for row in table.rows} - {""}
    assert set(words.triggers) | set(words.events) <= set(table.triggers)
    assert set(words.timeouts) <= set(table.states)
    assert all(table.target(state, trigger) is None for state, trigger in words.missing_in)
    assert {trigger for _, trigger in words.missing_in} <= set(table.triggers)
    assert all(error != words.missing for error in words.missing_in.values()), "not an exception"


@pytest.mark.parametrize("words", TABLE_WORDS.values(), ids=list(TABLE_WORDS))
def test_the_words_are_sentences_and_clauses(words: Words) -> None:
    for sentence in (*words.states.values(), *words.triggers.values()):
        assert sentence[0].isupper() and sentence.endswith(".")
    for clause in (*words.guards.values(), *words.effects.values(), *words.timeouts.values()):
        assert not clause[0].isupper() and not clause.endswith(".")


@pytest.mark.parametrize("words", TABLE_WORDS.values(), ids=list(TABLE_WORDS))
def test_the_errors_and_events_are_public(words: Words) -> None:
    errors = {words.missing, *words.missing_in.values()}.union(*words.refusals.values()) - {IGNORED}
    assert all(issubclass(getattr(authstate, name), AuthError) for name in errors)
    events = set[str]().union(*words.events.values())
    assert all(getattr(authstate, name) in get_args(Event) for name in events)


@pytest.mark.parametrize(("table", "state", "trigger"), CELLS, ids=lambda part: getattr(part, "name", str(part)))
def test_a_cell_without_a_row_raises_what_the_words_say(table: Table, state: str, trigger: str) -> None:
    expected = None if table.target(state, trigger) else TABLE_WORDS[table.name].refusal(state, trigger)
    machine = MACHINES[table.name]()
    machine.state = state
    assert refusal_of(machine, trigger) == expected
    assert machine.state == (table.target(state, trigger) or state)


def test_each_guard_refuses_with_exactly_the_errors_of_the_words() -> None:
    found: dict[str, set[str]] = {name: set() for name in AUTH_WORDS.guards}
    for row in (row for row in AUTH_TABLE.rows if row.guard):
        for state in row.sources:
            found[row.guard] |= set(refusals(row, state))
    assert found == {name: set(errors) for name, errors in AUTH_WORDS.refusals.items()}


def refusals(row: Row, state: str) -> list[str]:
    """The errors of every policy and every offer."""
    found = []
    for policy in _POLICIES:
        for offer in offers(state, row.trigger):
            try:
                auth_machine(state, policy, Listeners()).fire(Trigger(row.trigger), offer)
            except AuthError as error:
                found.append(type(error).__name__)
    return found


@pytest.mark.parametrize("state", AUTH_TABLE.states)
@pytest.mark.parametrize("trigger", AUTH_TABLE.triggers)
def test_a_login_emits_the_events_of_the_words(state: str, trigger: str) -> None:
    listeners, heard = Listeners(), list[Event]()
    listeners.subscribe(heard.append)
    if AUTH_TABLE.target(state, trigger):
        auth_machine(state, Policy(), listeners).fire(Trigger(trigger), offers(state, trigger)[0])
        assert tuple(type(event).__name__ for event in heard) == AUTH_WORDS.events[trigger]


@pytest.mark.parametrize("trigger", LOGIN_TABLE.triggers)
async def test_a_login_attempt_emits_the_events_of_the_words(trigger: str) -> None:
    heard: list[str] = []
    async with AuthEngine(testing.MemoryStore(), testing.FakeAuthority()) as engine:
        engine.subscribe(lambda event: heard.append(type(event).__name__))
        attempt = await engine.begin_login("id", LoginFlow.BROWSER)
        attempt.authorized()
        if trigger == "stored":
            await engine.complete_login(attempt, _TOKENS)
            assert heard.pop(0) == "StateChanged", "of the table of the login"
        elif trigger != "authorized":
            attempt.end(trigger, "because")
        assert tuple(heard) == LOGIN_WORDS.events.get(trigger, ())


def test_the_words_name_the_limits_of_the_code() -> None:
    settings, recovery = RefreshSettings(), RECOVERY_WORDS.timeouts
    assert f" {settings.total:g} seconds " in recovery["refresh"]
    assert f" {settings.parent_timeout:g} seconds " in recovery["ask_parent"]
    minutes = {flow: f"{seconds / 60:g} minutes" for flow, seconds in LIFETIME_SECONDS.items()}
    for text in LOGIN_WORDS.timeouts.values():
        assert text.startswith(f"{minutes[LoginFlow.BROWSER]} (browser) or {minutes[LoginFlow.DEVICE_CODE]} (device")
    assert f" {LINGER:g} seconds " in BROWSER_LOGIN_WORDS.timeouts["settled"]
    child = TABLE_WORDS["child_tokens"].timeouts
    assert f" {token_push._ANSWER_TIMEOUT:g} seconds " in child["handing_over"]
    assert child["retry_scheduled"].startswith(f"{token_push._FIRST_PAUSE:g} seconds at first")
    assert f"at most {token_push._LONGEST_PAUSE:g}" in child["retry_scheduled"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_limit_ends_with_a_trigger_that_leaves_its_state(table: Table) -> None:
    for state, text in TABLE_WORDS[table.name].timeouts.items():
        trigger = text.split("`")[-2]
        assert table.target(state, trigger) not in (None, state)
