"""Each refresh tells when and why it began, what was repeated, and how it ended: one beginning and one end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.leaks import assert_clean

from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import (
    AuthError,
    Delivery,
    EngineClosed,
    IssuerUnavailable,
    ParentUnavailable,
    RefreshDeadReason,
    StoreUnavailable,
)
from authstate.engine.model.events import (
    Event,
    RefreshEnded,
    RefreshFailed,
    RefreshOutcome,
    RefreshReason,
    RefreshRetried,
    RefreshStarted,
    StateChanged,
    Warned,
)
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.ports import HeldStore
from authstate.testing import FakeAuthority, FakeParent, ManualClock, MemoryStore, make_external_tokens, make_tokens


class FullStore(MemoryStore):
    """Refuses the next writes, as many as `full` says."""

    full = 0

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        async with super().locked() as held:
            save = held.save

            async def save_or_fail(credentials: Credentials) -> None:
                if self.full:
                    self.full -= 1
                    raise StoreUnavailable("the disk is full")
                await save(credentials)

            held.save = save_or_fail
            yield held


class World:
    """An engine whose clock, issuer and store the test controls."""

    def __init__(self, expires_in: float = 3600.0) -> None:
        self.clock = ManualClock()
        self.tokens = make_tokens(expires_in=expires_in, now=self.clock.now())
        self.authority = FakeAuthority(self.tokens, clock=self.clock)
        self.store = FullStore(self.tokens)
        self.parent = FakeParent()
        self.engine = AuthEngine(self.store, self.authority, parent=self.parent, clock=self.clock)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)

    def other_process_refreshes(self) -> None:
        self.store.credentials = self.authority.accept(make_tokens(expires_in=3600, now=self.clock.now()))

    @property
    def started(self) -> list[RefreshStarted]:
        return [event for event in self.events if isinstance(event, RefreshStarted)]

    @property
    def ended(self) -> list[RefreshEnded]:
        return [event for event in self.events if isinstance(event, RefreshEnded)]

    @property
    def retried(self) -> list[RefreshRetried]:
        return [event for event in self.events if isinstance(event, RefreshRetried)]


async def attempt(call: Awaitable[object]) -> None:
    """Do it, whatever it raises."""
    with suppress(AuthError):
        await call


async def test_a_refresh_begins_retries_and_ends() -> None:
    world = World()
    async with world.engine:
        world.authority.fail_next(IssuerUnavailable("the issuer answered 503", delivery=Delivery.NOT_PROCESSED))
        refreshing = asyncio.create_task(world.engine.refresh())
        await world.clock.elapse(5)
        await refreshing
    assert world.started == [RefreshStarted(RefreshReason.REQUESTED, 1)]
    [retried] = world.retried
    assert_clean(retried.error)
    assert retried.attempt == 2 and 0.25 <= retried.wait <= 0.5 and "503" in str(retried.error)
    [ended] = world.ended
    assert ended == RefreshEnded(RefreshOutcome.REFRESHED, ended.duration, 2, 2)
    assert ended.duration == pytest.approx(retried.wait)
    kinds = [type(event) for event in world.events]
    assert kinds == [StateChanged, RefreshStarted, RefreshRetried, StateChanged, RefreshEnded]


async def test_the_reason_says_who_began_it() -> None:
    for expires_in, call, reason in (
        (200.0, lambda engine: engine.authorization(), RefreshReason.BACKGROUND),
        (20.0, lambda engine: engine.authorization(), RefreshReason.NEEDED),
        (-20.0, lambda engine: engine.check(), RefreshReason.NEEDED),
        (3600.0, lambda engine: engine.refresh(), RefreshReason.REQUESTED),
    ):
        world = World(expires_in)
        async with world.engine:
            await call(world.engine)
            await world.clock.settle()
            assert [event.reason for event in world.started] == [reason]


async def test_a_short_lifetime_and_a_401_are_reasons() -> None:
    world = World(expires_in=900.0)
    async with world.engine:
        world.clock.advance(100)
        authorization = await world.engine.authorization(min_lifetime=1800)
        await world.engine.recover(authorization)
    assert [event.reason for event in world.started] == [RefreshReason.MIN_LIFETIME, RefreshReason.UNAUTHORIZED]


async def test_callers_who_join_begin_nothing() -> None:
    world = World(-10.0)
    async with world.engine:
        await asyncio.gather(*(world.engine.authorization() for _ in range(100)))
    assert len(world.started) == len(world.ended) == 1


async def test_tokens_of_another_process_are_adopted_without_a_question() -> None:
    world = World()
    async with world.engine:
        world.other_process_refreshes()
        await world.engine.refresh()
    assert [(event.outcome, event.attempts) for event in world.ended] == [(RefreshOutcome.ADOPTED, 0)]


async def test_a_dead_token_is_rejected_and_a_failure_is_not() -> None:
    world = World()
    async with world.engine:
        world.authority.fail_next(IssuerUnavailable("no", delivery=Delivery.REFUSED))
        await attempt(world.engine.refresh())
        world.authority.kill(RefreshDeadReason.REVOKED)
        await attempt(world.engine.refresh())
    first, second = world.ended
    assert (first.outcome, second.outcome) == (RefreshOutcome.FAILED, RefreshOutcome.REJECTED)
    assert first.error is not None and second.error is not None
    assert_clean(first.error)
    assert_clean(second.error)
    assert [type(event) for event in world.events[-3:]] == [StateChanged, RefreshFailed, RefreshEnded]


async def test_a_login_cancels_a_refresh_that_waits_for_another_try() -> None:
    world = World()
    async with world.engine:
        world.authority.fail_next(IssuerUnavailable("no", delivery=Delivery.NOT_SENT), times=9)
        refreshing = asyncio.create_task(attempt(world.engine.refresh()))
        await world.clock.until_asleep(1)
        await world.engine.use_api_key(ApiKey.parse("sk-key"))
        await refreshing
    assert [event.outcome for event in world.ended] == [RefreshOutcome.CANCELLED]


async def test_a_refresh_that_is_cancelled_before_its_first_step_never_began() -> None:
    world = World()
    async with world.engine:
        refreshing = asyncio.create_task(attempt(world.engine.refresh()))
        await asyncio.sleep(0)
        assert world.engine.is_refreshing
        await world.engine.use_api_key(ApiKey.parse("sk-key"))
        await refreshing
    assert len(world.started) == len(world.ended) == 0


async def test_external_tokens_that_come_first_make_it_unneeded() -> None:
    world = World()
    async with world.engine:
        world.authority.hold()
        world.authority.kill(RefreshDeadReason.REVOKED)
        refreshing = asyncio.create_task(attempt(world.engine.refresh()))
        await world.authority.asked()
        await world.engine.use_external_tokens(make_external_tokens())
        world.authority.release()
        await refreshing
    assert [event.outcome for event in world.ended] == [RefreshOutcome.NOT_NEEDED]


async def test_a_question_to_the_parent_is_a_refresh() -> None:
    world = World()
    async with world.engine:
        await world.engine.use_external_tokens(make_external_tokens())
        world.parent.will_answer(make_external_tokens(expires_in=7200), ParentUnavailable("no"))
        authorization = await world.engine.recover(await world.engine.authorization())
        await attempt(world.engine.recover(await world.engine.authorization()))
        assert authorization.is_parents_answer
    assert [event.reason for event in world.started] == [RefreshReason.UNAUTHORIZED] * 2
    outcomes = [(event.outcome, event.attempts) for event in world.ended]
    assert outcomes == [(RefreshOutcome.REFRESHED, 1), (RefreshOutcome.FAILED, 1)]


async def test_a_bug_of_a_store_ends_a_refresh_too() -> None:
    class Broken(MemoryStore):
        async def claim_on(self, fingerprint: str) -> None:
            raise ZeroDivisionError

    tokens = make_tokens()
    events: list[Event] = []
    async with AuthEngine(Broken(tokens), FakeAuthority(tokens)) as engine:
        engine.subscribe(events.append)
        with pytest.raises(ZeroDivisionError):
            await engine.refresh()
    [_, ended] = events
    assert isinstance(ended, RefreshEnded)
    assert (ended.outcome, ended.error) == (RefreshOutcome.FAILED, None)


async def test_the_end_tries_once_more_to_store_tokens() -> None:
    world = World()
    async with world.engine:
        world.store.full = 3
        refreshing = asyncio.create_task(attempt(world.engine.refresh()))
        await world.clock.elapse(5)
        await refreshing
    assert [event.reason for event in world.started] == [RefreshReason.REQUESTED, RefreshReason.UNSTORED]
    assert [(event.outcome, event.attempts) for event in world.ended] == [
        (RefreshOutcome.FAILED, 1),
        (RefreshOutcome.REFRESHED, 0),
    ]


async def test_the_end_stores_what_an_answer_without_an_access_token_brought_and_sends_nothing() -> None:
    world = World()
    world.authority.answer_without_access_token_next()
    async with world.engine:
        world.store.full = 3
        refreshing = asyncio.create_task(attempt(world.engine.refresh()))
        await world.clock.elapse(5)
        await refreshing
    assert len(world.authority.sent) == 1
    stored = await world.store.load()
    assert isinstance(stored, ChatgptTokens) and stored.refresh_token.reveal() in world.authority.live
    assert isinstance(world.ended[-1].error, EngineClosed)


async def test_an_end_that_cannot_wait_for_a_store_says_so() -> None:
    world = World()
    codes: list[str] = []
    await world.engine.start()
    world.engine.subscribe(lambda event: codes.append(event.code) if isinstance(event, Warned) else None)
    world.store.full = 3
    refreshing = asyncio.create_task(attempt(world.engine.refresh()))
    await world.clock.elapse(5)
    await refreshing
    world.store.full = 3  # the end tries, and waits for the next try
    await world.engine.close(grace=0.01)
    assert codes == ["tokens_not_stored", "refresh_abandoned"]
    await world.clock.elapse(5)


Step = Callable[[World], Awaitable[object]]


async def _refuse(world: World) -> None:
    await world.engine.recover(await world.engine.authorization())


async def _sign_in(world: World) -> None:
    tokens: ChatgptTokens = world.authority.accept(make_tokens(expires_in=100, now=world.clock.now()))
    await world.engine.complete_chatgpt_login(tokens)


async def _fail(world: World) -> None:
    world.authority.fail_next(IssuerUnavailable("503", delivery=Delivery.NOT_PROCESSED))


async def _lose(world: World) -> None:
    world.authority.fail_next(IssuerUnavailable("lost", delivery=Delivery.UNKNOWN))


async def _kill(world: World) -> None:
    world.authority.kill(RefreshDeadReason.REVOKED)


async def _refresh_elsewhere(world: World) -> None:
    world.other_process_refreshes()


async def _use_external(world: World) -> None:
    await world.engine.use_external_tokens(make_external_tokens())


STEPS: dict[str, Step] = {
    "authorization": lambda world: world.engine.authorization(),
    "lasting": lambda world: world.engine.authorization(min_lifetime=7200),
    "refresh": lambda world: world.engine.refresh(),
    "check": lambda world: world.engine.check(0.5),
    "follow": lambda world: world.engine.follow(adopt=True),
    "reload": lambda world: world.engine.reload(),
    "key": lambda world: world.engine.use_api_key(ApiKey.parse("sk-key")),
    "log_out": lambda world: world.engine.log_out(),
    "refused": _refuse,
    "sign_in": _sign_in,
    "external": _use_external,
    "issuer fails": _fail,
    "answer is lost": _lose,
    "token is dead": _kill,
    "other process": _refresh_elsewhere,
}


@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from([0.0, 0.1, 5.0, 400.0])), max_size=12))
async def test_every_refresh_has_one_beginning_and_one_end(history: list[tuple[str, float]]) -> None:
    world = World(expires_in=100)
    engine = AuthEngine(
        world.store, world.authority, parent=world.parent, clock=world.clock, settings=RefreshSettings(total=3.0)
    )
    world.engine = engine
    engine.subscribe(world.events.append)
    tasks: list[asyncio.Task[None]] = []
    async with engine:
        for name, seconds in history:
            tasks.append(asyncio.create_task(attempt(STEPS[name](world))))
            await world.clock.elapse(seconds)
        await world.clock.elapse(60)
    await world.clock.elapse(60)
    await asyncio.gather(*tasks)
    check_refreshes(world.events)
    news = [event for event in world.events if isinstance(event, StateChanged | RefreshEnded)]
    for before, ended in pairwise(news):
        if isinstance(ended, RefreshEnded) and ended.outcome is RefreshOutcome.REJECTED:
            assert isinstance(before, StateChanged)


def check_refreshes(events: list[Event]) -> None:
    """Check that refreshes begin and end in turn, and that their numbers fit."""
    running: RefreshStarted | None = None
    tries = 1
    for event in events:
        if isinstance(event, RefreshStarted):
            assert running is None
            running, tries = event, 1
        elif isinstance(event, RefreshRetried):
            assert running is not None
            tries += 1
            assert event.attempt == tries and event.wait >= 0
        elif isinstance(event, RefreshEnded):
            assert running is not None
            assert event.duration >= 0 and event.generation >= running.generation
            assert event.attempts <= tries
            assert (event.error is None) == (event.outcome not in (RefreshOutcome.FAILED, RefreshOutcome.REJECTED))
            running = None
    assert running is None
