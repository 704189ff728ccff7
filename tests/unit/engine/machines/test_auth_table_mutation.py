"""The walk through the table notices every change of any row: each mutant of the running table must fail it."""

from collections.abc import Iterator

import msgspec
import pytest

from authstate.engine.machines.auth_state import AUTH_TABLE, AuthMachine
from authstate.engine.machines.table import Row, Table
from authstate.engine.model.credentials import ApiKey, Credentials, ExternalTokens
from authstate.engine.model.errors import AuthError, TransitionRefused
from authstate.engine.model.events import Listeners
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.session import Failure, Session
from authstate.engine.model.states import AuthState, Trigger
from authstate.testing import make_external_tokens, make_tokens

# Source: trigger -> target, or "" for a refusal. By hand, from the design.
_LOGINS = {"use_api_key": "api_key", "complete_chatgpt_login": "chatgpt", "use_external_tokens": "external_tokens"}
_ENDS = {"log_out": "logged_out", "credentials_refused": "logged_out"}
_NO_REFRESH = {"tokens_refreshed": "", "refresh_rejected": ""}
WALK = {
    "logged_out": _LOGINS | _ENDS | _NO_REFRESH,
    "api_key": _LOGINS | _ENDS | _NO_REFRESH,
    "chatgpt": _LOGINS | _ENDS | {"tokens_refreshed": "chatgpt", "refresh_rejected": "refresh_dead"},
    "external_tokens": _ENDS
    | {"use_api_key": "", "complete_chatgpt_login": "", "use_external_tokens": "external_tokens"}
    | {"tokens_refreshed": "external_tokens", "refresh_rejected": ""},
    "refresh_dead": _LOGINS | _ENDS | {"tokens_refreshed": "chatgpt", "refresh_rejected": ""},
}
_KEY, _TOKENS, _EXTERNAL = ApiKey.parse("sk-1"), make_tokens(), make_external_tokens()
_CURRENT: dict[str, tuple[Credentials | None, Failure | None]] = {
    "logged_out": (None, None),
    "api_key": (_KEY, None),
    "chatgpt": (_TOKENS, None),
    "external_tokens": (_EXTERNAL, None),
    "refresh_dead": (_TOKENS, Failure("dead")),
}
_GOOD: dict[str, Credentials | Failure | None] = {
    "use_api_key": ApiKey.parse("sk-2"),
    "complete_chatgpt_login": make_tokens(),
    "use_external_tokens": make_external_tokens(),
    "log_out": Failure("not looked at"),
    "credentials_refused": Failure("a policy"),
    "refresh_rejected": Failure("rejected"),
}


def walk(table: Table) -> None:
    """Try every cell with an offer that the guard must let in and, where there is a guard, one that it must not.

    Raises AssertionError when the table does anything else than it should.
    """
    assert (table.states, table.initial) == (tuple(AuthState), "logged_out")
    for state, cells in WALK.items():
        for trigger, target in cells.items():
            _try_good(table, state, trigger, target)
            if target:
                _try_bad(table, state, trigger)


def _machine(table: Table, state: str, policy: Policy | None = None) -> AuthMachine:
    machine = AuthMachine(policy or Policy(), Listeners(), table)
    credentials, failure = _CURRENT[state]
    machine.session, machine.state = Session(AuthState(state), credentials, failure, 7), AuthState(state)
    machine._next = (credentials, failure)  # what the transition into this state left behind
    return machine


def _try_good(table: Table, state: str, trigger: str, target: str) -> None:
    if trigger == "tokens_refreshed":
        offer: Credentials | Failure | None = make_external_tokens() if state == "external_tokens" else make_tokens()
    else:
        offer = _GOOD[trigger]
    machine = _machine(table, state)
    before = machine.session
    try:
        machine.fire(Trigger(trigger), offer)
    except TransitionRefused:
        assert not target, f"{trigger} in {state} was refused"
        assert machine.session is before
        return
    assert target, f"{trigger} in {state} was not refused"
    after = machine.session
    kept = {
        "log_out": (None, None),
        "credentials_refused": (None, offer),
        "refresh_rejected": (before.credentials, offer),
    }.get(trigger, (offer, None))
    assert (after.state, after.credentials, after.failure, after.generation) == (target, *kept, 8)


def _try_bad(table: Table, state: str, trigger: str) -> None:
    """What the guards of the design must not let through."""
    bad: list[tuple[Policy, Credentials]] = []
    if trigger == "use_api_key":
        bad = [(Policy(LoginMethod.CHATGPT), ApiKey.parse("sk-3"))]
    elif trigger == "complete_chatgpt_login":
        bad = [(Policy(LoginMethod.API), make_tokens()), (Policy(None, ("org-9",)), make_tokens())]
    elif trigger == "use_external_tokens":
        bad = [(Policy(None, ("org-9",)), make_external_tokens())]
        assert _fires(table, state, trigger, Policy(), make_external_tokens(account_id="org-2")), (
            "another workspace may come"
        )
    elif trigger == "tokens_refreshed" and state == "external_tokens":
        bad = [(Policy(), make_external_tokens(account_id="org-2"))]
    elif trigger == "tokens_refreshed":
        bad = [(Policy(), make_tokens(account_id="org-2"))]
    for policy, offer in bad:
        assert not _fires(table, state, trigger, policy, offer), f"{trigger} in {state} let {type(offer)} through"
    if trigger == "complete_chatgpt_login":
        other = make_tokens(account_id="org-2")
        assert _fires(table, state, trigger, Policy(), other), "a login may change the account"


def _fires(table: Table, state: str, trigger: str, policy: Policy, offer: Credentials) -> bool:
    machine = _machine(table, state, policy)
    before = machine.session
    try:
        machine.fire(Trigger(trigger), offer)
    except AuthError:
        assert machine.session is before
        return False
    assert isinstance(machine.session.credentials, ApiKey | ExternalTokens | type(_TOKENS))
    return True


def _mutants() -> Iterator[tuple[str, Table]]:
    rows = AUTH_TABLE.rows
    for number, row in enumerate(rows):
        for name, changed in _changes(row):
            mutated = rows[:number] + changed + rows[number + 1 :]
            yield f"row {number} {row.trigger}: {name}", msgspec.structs.replace(AUTH_TABLE, rows=mutated)


def _changes(row: Row) -> Iterator[tuple[str, tuple[Row, ...]]]:
    def but(**change: object) -> tuple[Row, ...]:
        return (msgspec.structs.replace(row, **change),)

    yield "dropped", ()
    for target in set(AuthState) - {row.target}:
        yield f"leads to {target}", but(target=target)
    for source in row.sources:
        yield f"not from {source}", but(sources=tuple(other for other in row.sources if other != source))
    for source in AuthState:
        if source not in row.sources and not AUTH_TABLE.target(source, row.trigger):
            yield f"also from {source}", but(sources=(*row.sources, source))
    for trigger in set(Trigger) - {row.trigger}:
        yield f"is called {trigger}", but(trigger=trigger)
    for guard in {"", "permitted", "same_account"} - {row.guard}:
        yield f"guard {guard or 'none'}", but(guard=guard)
    for effect in {"", "install", "clear", "reject", "mark_dead"} - {row.effect}:
        yield f"effect {effect or 'none'}", but(effect=effect)


MUTANTS = dict(_mutants())


def test_the_running_table_passes_the_walk() -> None:
    walk(AUTH_TABLE)


def test_there_are_mutants_of_every_row() -> None:
    assert len(MUTANTS) > 100
    rows = {f"row {n} {row.trigger}" for n, row in enumerate(AUTH_TABLE.rows)}
    assert {name.split(":")[0] for name in MUTANTS} == rows


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_the_walk_fails_for_every_mutant(name: str) -> None:
    with pytest.raises((AssertionError, AttributeError)):
        walk(MUTANTS[name])


@pytest.mark.parametrize("change", [{"initial": "chatgpt"}, {"states": (*AuthState, "limbo")}])
def test_the_walk_notices_other_states(change: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        walk(msgspec.structs.replace(AUTH_TABLE, **change))
