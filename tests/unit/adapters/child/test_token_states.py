"""The state table of a child's tokens: every state and trigger, against a table that is written by hand."""

import pytest
from support.child_in_memory import tokens

from authstate.adapters.child.token_states import CHILD_TOKENS_TABLE, ChildTokens, acts_the_same
from authstate.engine.machines.table import shared_machine
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import TransitionRefused

EXPECTED = {
    "not_started": {"start": "in_step", "answered": "not_started", "close": "closed"},
    "in_step": {"changed": "outdated", "answered": "in_step", "close": "closed"},
    "outdated": {"send": "handing_over", "answered": "in_step", "close": "closed"},
    "handing_over": {
        "taken": "in_step",
        "not_taken": "retry_scheduled",
        "answered": "handing_over",
        "close": "closed",
    },
    "retry_scheduled": {"changed": "outdated", "retry_due": "outdated", "answered": "in_step", "close": "closed"},
    "closed": {"answered": "closed", "close": "closed"},
}
TRIGGERS = ("start", "changed", "send", "taken", "not_taken", "retry_due", "answered", "close")
CELLS = [(state, trigger, row.get(trigger)) for state, row in EXPECTED.items() for trigger in TRIGGERS]
TOKENS, OTHERS, KEY = tokens(), tokens(account_id="org-2"), ApiKey.parse("sk-1")


def test_the_expectation_names_every_state_and_trigger() -> None:
    assert set(CHILD_TOKENS_TABLE.states) == set(EXPECTED)
    assert set(CHILD_TOKENS_TABLE.triggers) == set(TRIGGERS)


def report(model: ChildTokens, trigger: str) -> None:
    """Report what happened, as the code that drives a child does. For `changed`, the engine holds a key."""
    calls = {
        "start": lambda: model.start(KEY),
        "changed": lambda: model.compare(KEY),
        "send": lambda: model.send(KEY),
        "taken": lambda: model.taken(TOKENS),
        "not_taken": model.not_taken,
        "retry_due": model.retry_due,
        "answered": lambda: model.answered(OTHERS),
        "close": model.close,
    }
    calls[trigger]()


@pytest.mark.parametrize(("state", "trigger", "target"), CELLS)
def test_each_trigger_in_each_state(state: str, trigger: str, target: str | None) -> None:
    model = ChildTokens()
    model.state, model.sent, model.may_hold_login = state, TOKENS, True
    if target is not None:
        report(model, trigger)
        assert model.state == target
        return
    if trigger != "changed":  # a comparison is no report: it asks the table only where there is a row
        with pytest.raises(TransitionRefused):
            report(model, trigger)
    with pytest.raises(TransitionRefused):
        shared_machine(CHILD_TOKENS_TABLE).fire(model, trigger)
    assert (model.state, model.sent, model.may_hold_login) == (state, TOKENS, True), "a refused call changes nothing"


@pytest.mark.parametrize("state", EXPECTED)
@pytest.mark.parametrize("wanted", [TOKENS, OTHERS, KEY, None])
def test_only_other_credentials_are_a_change(state: str, wanted: object) -> None:
    model = ChildTokens()
    model.state, model.sent = state, TOKENS
    is_change = state in ("in_step", "retry_scheduled") and wanted is not TOKENS
    assert model.compare(wanted) is is_change  # type: ignore[arg-type]
    assert model.state == ("outdated" if is_change else state)


def test_a_child_may_hold_a_login_until_it_took_a_sign_out() -> None:
    model = ChildTokens()
    model.start(None)
    assert not model.may_hold_login
    model.compare(TOKENS)
    model.send(TOKENS)
    assert model.may_hold_login
    model.not_taken()
    model.compare(None)
    model.send(None)
    assert model.may_hold_login
    model.not_taken()
    model.retry_due()
    model.send(None)
    assert model.taken(None)
    assert not model.may_hold_login


def test_a_sign_out_that_an_answer_overtook_leaves_a_login() -> None:
    model = ChildTokens()
    model.start(KEY)
    model.compare(None)
    model.send(None)
    model.answered(TOKENS)
    assert not model.taken(None)
    assert model.may_hold_login
    assert model.sent is TOKENS


def test_an_answer_before_the_start_is_remembered() -> None:
    model = ChildTokens()
    model.answered(TOKENS)
    model.start(None)
    assert not model.compare(TOKENS)
    assert model.compare(None)


def test_what_a_child_acts_the_same_with() -> None:
    assert acts_the_same(None, None)
    assert acts_the_same(KEY, ApiKey.parse("sk-1"))
    assert not acts_the_same(KEY, TOKENS)
    assert not acts_the_same(TOKENS, tokens())
    assert not acts_the_same(TOKENS, None)
