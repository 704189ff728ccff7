"""Tokens that a parent owns: never stored, asked for once by all, and left as they are when the parent fails."""

import asyncio
from typing import Any

import pytest

from authstate.engine.engine import AuthEngine
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
from authstate.engine.model.session import Authorization
from authstate.engine.model.states import AuthState, Trigger
from authstate.testing import (
    NEVER,
    FakeAuthority,
    FakeParent,
    ManualClock,
    MemoryStore,
    make_external_tokens,
    make_tokens,
)


class World:
    """An engine in external mode, and its parent."""

    def __init__(self, stored: Credentials | None = None) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(stored)
        self.authority = FakeAuthority(clock=self.clock)
        self.parent = FakeParent()
        self.engine = AuthEngine(self.store, self.authority, parent=self.parent, clock=self.clock)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)
        self.first = make_external_tokens(now=self.clock.now())

    @classmethod
    async def together(cls, stored: ChatgptTokens | None = None) -> "World":
        world = cls(stored)
        await world.engine.start()
        await world.engine.use_external_tokens(world.first)
        world.events.clear()
        return world


async def test_external_tokens_are_used_and_never_stored() -> None:
    stored = make_tokens()
    world = World(stored)
    await world.engine.start()
    world.events.clear()
    await world.engine.use_external_tokens(world.first)
    assert world.events[1:] == [
        LoginCompleted(None, success=True),
        AccountUpdated(AuthMode.EXTERNAL_TOKENS, world.first.account.plan_type),
    ]
    authorization = await world.engine.authorization()
    assert authorization.token == world.first.access_token
    assert authorization.headers()["chatgpt-account-id"] == "org-1"
    assert await world.engine.refresh() is world.engine.session
    assert await world.engine.check() is world.engine.session
    assert not await world.engine.reload()
    assert world.store.credentials is stored
    assert (world.store.saves, world.store.deletes, world.store.loads) == (0, 0, 1), "the start reads it"


async def test_a_policy_keeps_external_tokens_out() -> None:
    world = World()
    world.engine.set_policy(Policy(LoginMethod.API))
    await world.engine.start()
    with pytest.raises(LoginMethodForbidden):
        await world.engine.use_external_tokens(world.first)
    world.engine.set_policy(Policy(None, ("org-9",)))
    with pytest.raises(WorkspaceForbidden):
        await world.engine.use_external_tokens(world.first)
    assert world.engine.session.generation == 0


async def test_one_question_for_a_thousand_401s() -> None:
    world = await World.together()
    world.parent.will_answer(newer := make_external_tokens())
    refused = await world.engine.authorization()
    answers = await asyncio.gather(*(world.engine.recover(refused) for _ in range(1000)))
    assert {answer.token.reveal() for answer in answers} == {newer.access_token.reveal()}
    assert world.parent.asked == ["org-1"]
    assert [event.trigger for event in world.events if isinstance(event, StateChanged)] == [Trigger.TOKENS_REFRESHED]
    await world.engine.recover(refused)
    assert world.parent.count == 1
    assert world.store.saves == 0


async def test_one_question_for_all_who_ask_directly() -> None:
    world = await World.together()
    world.parent.will_answer(make_external_tokens())
    await asyncio.gather(*(world.engine._flows.external.ask() for _ in range(10)))
    assert world.parent.count == 1


@pytest.mark.parametrize("stored", [None, ApiKey.parse("sk-1"), make_tokens()])
async def test_a_parent_is_asked_only_for_tokens_that_it_owns(stored: Credentials | None) -> None:
    world = World(stored)
    before = await world.engine.start()
    world.parent.will_answer(make_external_tokens())
    with pytest.raises(TransitionRefused, match="no parent application owns"):
        await world.engine._flows.external.ask()
    assert world.parent.count == 0
    assert world.engine.session is before


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (ParentUnavailable("the parent said no"), ParentUnavailable, "said no"),
        (InvalidCredentials("the access token is not a JWT"), ParentUnavailable, "cannot be used"),
        (ValueError("a bug that holds a secret"), ParentUnavailable, r"could not be asked \(ValueError\): see its log"),
        (make_external_tokens(account_id="org-2"), ParentUnavailable, "org-2"),
        (NEVER, ParentUnavailable, "within 10 seconds: see its log, then send"),
    ],
)
async def test_a_parent_that_fails_leaves_the_state_and_is_asked_again(
    answer: Any, error: type[Exception], says: str
) -> None:
    world = await World.together()
    world.parent.will_answer(answer, newer := make_external_tokens())
    refused = await world.engine.authorization()
    before = world.engine.session
    recoveries = [asyncio.create_task(world.engine.recover(refused)) for _ in range(5)]
    await world.clock.elapse(9.9)
    assert recoveries[0].done() is (answer is not NEVER)
    await world.clock.elapse(0.1)
    errors = await asyncio.gather(*recoveries, return_exceptions=True)
    assert len({id(failed) for failed in errors}) == 5
    for failed in errors:
        assert isinstance(failed, error) and type(failed) is error
        with pytest.raises(error, match=says):
            raise failed
    assert world.engine.session is before
    assert [event.permanent for event in world.events if isinstance(event, RefreshFailed)] == [False]
    assert world.parent.count == 1
    assert world.parent.cancelled == (answer is NEVER)
    assert world.clock.sleepers == 0
    assert (await world.engine.recover(refused)).token == newer.access_token
    assert world.parent.count == 2


async def test_a_policy_holds_for_what_the_parent_sends() -> None:
    world = await World.together()
    world.engine._flows.machine.policy = Policy(LoginMethod.API)
    world.parent.will_answer(make_external_tokens())
    with pytest.raises(LoginMethodForbidden):
        await world.engine.recover(await world.engine.authorization())


async def test_without_a_parent_a_401_is_the_end() -> None:
    world = await World.together()
    world.engine.parent = None
    assert world.engine.parent is None
    with pytest.raises(ParentUnavailable, match="no parent application to ask for new ones: pass new ones in"):
        await world.engine.recover(await world.engine.authorization())


async def test_the_answer_to_an_old_question_is_dropped() -> None:
    world = await World.together()
    world.parent.gate.clear()
    world.parent.will_answer(make_external_tokens())
    recovery = asyncio.create_task(world.engine.recover(await world.engine.authorization()))
    await world.clock.settle()
    await world.engine.use_external_tokens(newest := make_external_tokens())
    world.parent.gate.set()
    assert (await recovery).token == newest.access_token
    assert world.engine.session.credentials is newest


async def test_a_cancelled_caller_does_not_cancel_the_question() -> None:
    world = await World.together()
    world.parent.gate.clear()
    world.parent.will_answer(newer := make_external_tokens())
    refused = await world.engine.authorization()
    first, second = (asyncio.create_task(world.engine.recover(refused)) for _ in range(2))
    await world.clock.settle()
    first.cancel()
    await world.clock.settle()
    world.parent.gate.set()
    assert (await second).token == newer.access_token
    assert world.parent.cancelled == 0


async def expired_login() -> tuple[World, "asyncio.Task[Authorization]"]:
    """A managed login whose refresh token is at the issuer now."""
    clock_now = ManualClock().now()
    tokens = make_tokens(expires_in=-1, now=clock_now)
    world = World(tokens)
    world.authority.accept(tokens)
    await world.engine.start()
    world.authority.hold()
    caller: asyncio.Task[Authorization] = asyncio.create_task(world.engine.authorization())
    await world.authority.asked()
    return world, caller


async def test_external_tokens_need_not_wait_for_a_refresh_whose_tokens_are_stored_all_the_same() -> None:
    world, caller = await expired_login()
    await world.engine.use_external_tokens(world.first)
    assert world.engine.session.state is AuthState.EXTERNAL_TOKENS
    world.authority.release()
    answer = await caller
    assert answer.token == world.first.access_token
    assert world.engine.session.credentials is world.first
    assert isinstance(world.store.credentials, ChatgptTokens)
    assert world.store.credentials.refresh_token == world.authority.grants[0].refresh_token


@pytest.mark.parametrize("outcome", ["permanent", "transient"])
async def test_external_tokens_during_a_refresh_that_fails(outcome: str) -> None:
    clock = ManualClock()
    tokens = make_tokens(expires_in=-1, now=clock.now())
    world = World(tokens)
    if outcome == "permanent":
        world.authority.accept(tokens)
        world.authority.kill(RefreshDeadReason.REVOKED)
    else:
        world.authority.fail_next(IssuerUnavailable("503", retry_after=100.0))
    await world.engine.start()
    world.authority.hold()
    caller = asyncio.create_task(world.engine.authorization())
    await world.authority.asked()
    await world.engine.use_external_tokens(world.first)
    world.events.clear()
    world.authority.release()
    assert (await caller).token == world.first.access_token
    assert world.engine.session.credentials is world.first
    assert not any(isinstance(event, StateChanged) for event in world.events)
    assert not any(isinstance(event, RefreshFailed) and event.permanent for event in world.events)


async def test_a_logout_ends_the_external_mode_and_removes_what_is_stored() -> None:
    stored = make_tokens()
    world = await World.together(stored)
    world.authority.accept(stored)
    await world.engine.log_out()
    assert world.engine.session.state is AuthState.LOGGED_OUT
    assert world.store.credentials is None
    await world.engine.close()
    assert world.authority.revoked == [stored.refresh_token.reveal()]


async def test_a_logout_with_nothing_stored_needs_no_lock() -> None:
    world = await World.together()
    async with world.store.locked():
        await world.engine.log_out()
    assert world.engine.session.state is AuthState.LOGGED_OUT
    assert world.store.deletes == 0
    assert world.events[-1] == AccountUpdated(None, None)


async def test_a_logout_with_something_unreadable_stored_removes_it() -> None:
    world = await World.together(make_tokens())

    async def corrupt() -> None:
        raise StoreUnreadable("no JSON")

    world.store.load = corrupt
    await world.engine.log_out()
    assert world.store.deletes == 1


async def test_a_refused_token_that_the_parent_sends_again_is_not_used() -> None:
    world = await World.together()
    refused = await world.engine.authorization()
    before = world.engine.session
    world.parent.will_answer(world.first, world.first, newer := make_external_tokens(now=world.clock.now()))
    for _ in range(2):
        with pytest.raises(ParentUnavailable, match="sent an access token that the backend had refused before"):
            await world.engine.recover(refused)
    assert world.engine.session is before
    assert (await world.engine.recover(refused)).token == newer.access_token
    world.parent.will_answer(world.first)
    with pytest.raises(ParentUnavailable, match="again"):
        await world.engine.recover(await world.engine.authorization())
    assert world.parent.count == 4


async def test_a_login_of_the_parent_brings_back_a_token_that_was_refused_before() -> None:
    """The backend may have been at fault, and the parent may know that."""
    world = await World.together()
    refused = await world.engine.authorization()
    world.parent.will_answer(world.first, newer := make_external_tokens(now=world.clock.now()), world.first)
    with pytest.raises(ParentUnavailable):
        await world.engine.recover(refused)
    await world.engine.recover(refused)
    await world.engine.use_external_tokens(world.first)
    assert (await world.engine.authorization()).token == world.first.access_token
    await world.engine.use_external_tokens(newer)
    await world.engine.recover(await world.engine.authorization())
    assert world.engine.session.credentials is world.first


async def test_the_parent_is_asked_once_for_one_request() -> None:
    world = await World.together()
    world.parent.will_answer(make_external_tokens(now=world.clock.now()), make_external_tokens(now=world.clock.now()))
    answer = await world.engine.recover(await world.engine.authorization())
    assert answer.is_parents_answer
    with pytest.raises(RecoveryExhausted, match="refused the new token of the parent application, too"):
        await world.engine.recover(answer)
    assert world.parent.count == 1
    another = await world.engine.authorization()
    assert await world.engine.recover(another) != answer
    assert world.parent.count == 2
    assert (await world.engine.recover(answer)).token != answer.token
    assert world.parent.count == 2, "another request got a newer token meanwhile"


async def test_a_parent_that_answers_by_a_login_with_the_refused_token_gives_nothing_to_send() -> None:
    world = await World.together()
    world.parent.gate.clear()
    world.parent.will_answer(world.first)
    recovery = asyncio.create_task(world.engine.recover(await world.engine.authorization()))
    await world.parent.was_asked.wait()
    await world.engine.use_external_tokens(world.first)
    world.parent.gate.set()
    with pytest.raises(RecoveryExhausted, match="there is no other"):
        await recovery


async def test_an_expired_token_of_the_parent_is_used_with_a_warning() -> None:
    """The clock of this machine may be wrong, and the backend decides."""
    world = await World.together()
    world.parent.will_answer(expired := make_external_tokens(now=world.clock.now(), expires_in=0))
    answer = await world.engine.recover(await world.engine.authorization())
    assert answer.token == expired.access_token
    warning = next(event for event in world.events if isinstance(event, Warned))
    assert warning.code == "parent_token_expired"
    world.parent.will_answer(make_external_tokens(now=world.clock.now(), expires_in=1))
    await world.engine.recover(await world.engine.authorization())
    assert sum(isinstance(event, Warned) for event in world.events) == 1
