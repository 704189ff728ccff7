"""Tokens that a parent owns: never stored, asked for once by all, and left as they are when the parent fails."""

import asyncio
from typing import Any

import pytest

from authstate.adapters.testing import (
    NEVER,
    FakeAuthority,
    FakeParent,
    ManualClock,
    MemoryStore,
    make_external,
    make_tokens,
)
from authstate.engine.engine import AuthEngine
from authstate.engine.model.authorization import Authorization
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import (
    InvalidCredentials,
    IssuerUnavailable,
    LoginMethodForbidden,
    ParentUnavailable,
    RecoveryExhausted,
    RefreshDeadReason,
    StoreUnreadable,
    TransitionRefused,
    WorkspaceForbidden,
)
from authstate.engine.model.events import (
    AccountUpdated,
    AuthMode,
    Event,
    LoginCompleted,
    RefreshFailed,
    StateChanged,
    Warned,
)
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.states import AuthState, Trigger


class Family:
    """An engine in external mode, and its parent."""

    def __init__(self, stored: Credentials | None = None) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(stored)
        self.authority = FakeAuthority(clock=self.clock)
        self.parent = FakeParent()
        self.engine = AuthEngine(self.store, self.authority, parent=self.parent, clock=self.clock)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)
        self.first = make_external(now=self.clock.now())

    @classmethod
    async def together(cls, stored: ChatgptTokens | None = None) -> "Family":
        family = cls(stored)
        await family.engine.start()
        await family.engine.use_external_tokens(family.first)
        family.events.clear()
        return family


async def test_external_tokens_are_used_and_never_stored() -> None:
    stored = make_tokens()
    family = Family(stored)
    await family.engine.use_external_tokens(family.first)
    assert family.events[1:] == [
        LoginCompleted(None, success=True),
        AccountUpdated(AuthMode.EXTERNAL_TOKENS, family.first.account.plan_type),
    ]
    authorization = await family.engine.authorization()
    assert authorization.token == family.first.access_token
    assert authorization.headers()["chatgpt-account-id"] == "org-1"
    assert await family.engine.refresh() is family.engine.session
    assert await family.engine.check() is family.engine.session
    assert not await family.engine.reload()
    assert family.store.credentials is stored
    assert (family.store.saves, family.store.deletes, family.store.loads) == (0, 0, 0)


async def test_a_policy_keeps_external_tokens_out() -> None:
    family = Family()
    family.engine.set_policy(Policy(LoginMethod.API))
    with pytest.raises(LoginMethodForbidden):
        await family.engine.use_external_tokens(family.first)
    family.engine.set_policy(Policy(None, ("org-9",)))
    with pytest.raises(WorkspaceForbidden):
        await family.engine.use_external_tokens(family.first)
    assert family.engine.session.generation == 0


async def test_one_question_for_a_thousand_401s() -> None:
    family = await Family.together()
    family.parent.will_answer(newer := make_external())
    refused = await family.engine.authorization()
    answers = await asyncio.gather(*(family.engine.recover(refused) for _ in range(1000)))
    assert {answer.token.reveal() for answer in answers} == {newer.access_token.reveal()}
    assert family.parent.asked == ["org-1"]
    assert [event.trigger for event in family.events if isinstance(event, StateChanged)] == [Trigger.TOKENS_REFRESHED]
    await family.engine.recover(refused)
    assert family.parent.count == 1
    assert family.store.saves == 0


async def test_one_question_for_all_who_ask_directly() -> None:
    family = await Family.together()
    family.parent.will_answer(make_external())
    sessions = await asyncio.gather(*(family.engine.ask_parent() for _ in range(10)))
    assert family.parent.count == 1
    assert all(session is family.engine.session for session in sessions)


@pytest.mark.parametrize("stored", [None, ApiKey.parse("sk-1"), make_tokens()])
async def test_a_parent_is_asked_only_for_tokens_that_it_owns(stored: Credentials | None) -> None:
    family = Family(stored)
    before = await family.engine.start()
    family.parent.will_answer(make_external())
    with pytest.raises(TransitionRefused, match="no parent application owns"):
        await family.engine.ask_parent()
    assert family.parent.count == 0
    assert family.engine.session is before


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (ParentUnavailable("the parent said no"), ParentUnavailable, "said no"),
        (InvalidCredentials("the access token is no JWT"), ParentUnavailable, "cannot be used"),
        (ValueError("a bug that holds a secret"), ParentUnavailable, r"could not be asked \(ValueError\): see its log"),
        (make_external(account_id="org-2"), ParentUnavailable, "org-2"),
        (NEVER, ParentUnavailable, "within 10 seconds: see its log, then send"),
    ],
)
async def test_a_parent_that_fails_leaves_the_state_and_is_asked_again(
    answer: Any, error: type[Exception], says: str
) -> None:
    family = await Family.together()
    family.parent.will_answer(answer, newer := make_external())
    refused = await family.engine.authorization()
    before = family.engine.session
    recoveries = [asyncio.create_task(family.engine.recover(refused)) for _ in range(5)]
    await family.clock.elapse(9.9)
    assert recoveries[0].done() is (answer is not NEVER)
    await family.clock.elapse(0.1)
    errors = await asyncio.gather(*recoveries, return_exceptions=True)
    assert len({id(failed) for failed in errors}) == 5
    for failed in errors:
        assert isinstance(failed, error) and type(failed) is error
        with pytest.raises(error, match=says):
            raise failed
    assert family.engine.session is before
    assert [event.permanent for event in family.events if isinstance(event, RefreshFailed)] == [False]
    assert family.parent.count == 1
    assert family.parent.cancelled == (answer is NEVER)
    assert family.clock.sleepers == 0
    assert (await family.engine.recover(refused)).token == newer.access_token
    assert family.parent.count == 2


async def test_a_policy_holds_for_what_the_parent_sends() -> None:
    family = await Family.together()
    family.engine._machine.policy = Policy(LoginMethod.API)
    family.parent.will_answer(make_external())
    with pytest.raises(LoginMethodForbidden):
        await family.engine.recover(await family.engine.authorization())


async def test_without_a_parent_a_401_is_the_end() -> None:
    family = await Family.together()
    family.engine.parent = None
    assert family.engine.parent is None
    with pytest.raises(ParentUnavailable, match="no parent application to ask for new ones: pass new ones in"):
        await family.engine.recover(await family.engine.authorization())


async def test_the_answer_to_an_old_question_is_dropped() -> None:
    family = await Family.together()
    family.parent.gate.clear()
    family.parent.will_answer(make_external())
    recovery = asyncio.create_task(family.engine.recover(await family.engine.authorization()))
    await family.clock.settle()
    await family.engine.use_external_tokens(newest := make_external())
    family.parent.gate.set()
    assert (await recovery).token == newest.access_token
    assert family.engine.session.credentials is newest


async def test_a_cancelled_caller_does_not_cancel_the_question() -> None:
    family = await Family.together()
    family.parent.gate.clear()
    family.parent.will_answer(newer := make_external())
    refused = await family.engine.authorization()
    first, second = (asyncio.create_task(family.engine.recover(refused)) for _ in range(2))
    await family.clock.settle()
    first.cancel()
    await family.clock.settle()
    family.parent.gate.set()
    assert (await second).token == newer.access_token
    assert family.parent.cancelled == 0


async def expired_login() -> tuple[Family, "asyncio.Task[Authorization]"]:
    """A managed login whose refresh token is at the issuer now."""
    clock_now = ManualClock().now()
    tokens = make_tokens(expires_in=-1, now=clock_now)
    family = Family(tokens)
    family.authority.accept(tokens)
    await family.engine.start()
    family.authority.hold()
    caller: asyncio.Task[Authorization] = asyncio.create_task(family.engine.authorization())
    await family.authority.asked()
    return family, caller


async def test_external_tokens_need_not_wait_for_a_flight_whose_tokens_are_stored_all_the_same() -> None:
    family, caller = await expired_login()
    await family.engine.use_external_tokens(family.first)
    assert family.engine.session.state is AuthState.EXTERNAL_TOKENS
    family.authority.release()
    answer = await caller
    assert answer.token == family.first.access_token
    assert family.engine.session.credentials is family.first
    assert isinstance(family.store.credentials, ChatgptTokens)
    assert family.store.credentials.refresh_token == family.authority.grants[0].refresh_token


@pytest.mark.parametrize("outcome", ["permanent", "transient"])
async def test_external_tokens_during_a_flight_that_fails(outcome: str) -> None:
    clock = ManualClock()
    tokens = make_tokens(expires_in=-1, now=clock.now())
    family = Family(tokens)
    if outcome == "permanent":
        family.authority.accept(tokens)
        family.authority.kill(RefreshDeadReason.REVOKED)
    else:
        family.authority.fail_next(IssuerUnavailable("503", retry_after=100.0))
    await family.engine.start()
    family.authority.hold()
    caller = asyncio.create_task(family.engine.authorization())
    await family.authority.asked()
    await family.engine.use_external_tokens(family.first)
    family.events.clear()
    family.authority.release()
    assert (await caller).token == family.first.access_token
    assert family.engine.session.credentials is family.first
    assert not any(isinstance(event, StateChanged) for event in family.events)
    assert not any(isinstance(event, RefreshFailed) and event.permanent for event in family.events)


async def test_a_logout_ends_the_external_mode_and_removes_what_is_stored() -> None:
    stored = make_tokens()
    family = await Family.together(stored)
    family.authority.accept(stored)
    await family.engine.log_out()
    assert family.engine.session.state is AuthState.LOGGED_OUT
    assert family.store.credentials is None
    await family.engine.close()
    assert family.authority.revoked == [stored.refresh_token.reveal()]


async def test_a_logout_with_nothing_stored_needs_no_lock() -> None:
    family = await Family.together()
    async with family.store.locked():
        await family.engine.log_out()
    assert family.engine.session.state is AuthState.LOGGED_OUT
    assert family.store.deletes == 0
    assert family.events[-1] == AccountUpdated(None, None)


async def test_a_logout_with_something_unreadable_stored_removes_it() -> None:
    family = await Family.together(make_tokens())

    async def corrupt() -> None:
        raise StoreUnreadable("no JSON")

    family.store.load = corrupt
    await family.engine.log_out()
    assert family.store.deletes == 1


async def test_a_refused_token_that_the_parent_sends_again_is_not_used() -> None:
    family = await Family.together()
    refused = await family.engine.authorization()
    before = family.engine.session
    family.parent.will_answer(family.first, family.first, newer := make_external(now=family.clock.now()))
    for _ in range(2):
        with pytest.raises(ParentUnavailable, match="sent an access token again that the backend had refused"):
            await family.engine.recover(refused)
    assert family.engine.session is before
    assert (await family.engine.recover(refused)).token == newer.access_token
    family.parent.will_answer(family.first)
    with pytest.raises(ParentUnavailable, match="again"):
        await family.engine.recover(await family.engine.authorization())
    assert family.parent.count == 4


async def test_a_login_of_the_parent_brings_back_a_token_that_was_refused_before() -> None:
    """The backend may have been at fault, and the parent may know that."""
    family = await Family.together()
    refused = await family.engine.authorization()
    family.parent.will_answer(family.first, newer := make_external(now=family.clock.now()), family.first)
    with pytest.raises(ParentUnavailable):
        await family.engine.recover(refused)
    await family.engine.recover(refused)
    await family.engine.use_external_tokens(family.first)
    assert (await family.engine.authorization()).token == family.first.access_token
    await family.engine.use_external_tokens(newer)
    await family.engine.recover(await family.engine.authorization())
    assert family.engine.session.credentials is family.first


async def test_the_parent_is_asked_once_for_one_request() -> None:
    family = await Family.together()
    family.parent.will_answer(make_external(now=family.clock.now()), make_external(now=family.clock.now()))
    answer = await family.engine.recover(await family.engine.authorization())
    assert answer.is_parents_answer
    with pytest.raises(RecoveryExhausted, match="refused the new token of the parent application, too"):
        await family.engine.recover(answer)
    assert family.parent.count == 1
    another = await family.engine.authorization()
    assert await family.engine.recover(another) != answer
    assert family.parent.count == 2
    assert (await family.engine.recover(answer)).token != answer.token
    assert family.parent.count == 2, "another request got a newer token meanwhile"


async def test_a_parent_that_answers_by_a_login_with_the_refused_token_gives_nothing_to_send() -> None:
    family = await Family.together()
    family.parent.gate.clear()
    family.parent.will_answer(family.first)
    recovery = asyncio.create_task(family.engine.recover(await family.engine.authorization()))
    await family.parent.was_asked.wait()
    await family.engine.use_external_tokens(family.first)
    family.parent.gate.set()
    with pytest.raises(RecoveryExhausted, match="there is no other"):
        await recovery


async def test_an_expired_token_of_the_parent_is_used_with_a_warning() -> None:
    """The clock of this machine may be wrong, and the backend decides."""
    family = await Family.together()
    family.parent.will_answer(expired := make_external(now=family.clock.now(), expires_in=0))
    answer = await family.engine.recover(await family.engine.authorization())
    assert answer.token == expired.access_token
    warning = next(event for event in family.events if isinstance(event, Warned))
    assert warning.code == "parent_token_expired"
    family.parent.will_answer(make_external(now=family.clock.now(), expires_in=1))
    await family.engine.recover(await family.engine.authorization())
    assert sum(isinstance(event, Warned) for event in family.events) == 1
