"""`AuthEngine.background`: what it follows, when it refreshes, what it survives, and how it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from authstate import (
    ApiKey,
    AuthEngine,
    AuthState,
    Background,
    Credentials,
    Delivery,
    EngineClosed,
    Event,
    IssuerUnavailable,
    RefreshDeadReason,
    RefreshSettings,
    StoreUnavailable,
    Warned,
)
from authstate.engine.model.events import Listeners
from authstate.testing import FakeAuthority, ManualClock, MemoryStore

LOST = IssuerUnavailable("the answer was lost", delivery=Delivery.UNKNOWN)
DOWN = IssuerUnavailable("the issuer is down", delivery=Delivery.REFUSED)


class World:
    """An engine whose tokens last ten minutes. Nobody asks it for one."""

    def __init__(self, expires_in: float = 600.0) -> None:
        self.clock = ManualClock()
        self.authority = FakeAuthority(clock=self.clock, expires_in=expires_in)
        self.tokens = self.authority.issue()
        self.store = MemoryStore(self.tokens)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock, settings=RefreshSettings(total=0.0))
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)

    @classmethod
    @asynccontextmanager
    async def open(cls, **options: Any) -> "AsyncIterator[World]":
        world = cls()
        async with world.engine, world.engine.background(**options):
            yield world

    @property
    def sent(self) -> int:
        return len(self.authority.sent)

    def warnings(self) -> list[Warned]:
        return [event for event in self.events if isinstance(event, Warned)]


async def test_tokens_are_refreshed_before_they_expire_though_nobody_asks() -> None:
    async with World.open() as world:
        await world.clock.elapse(299.0)
        assert world.sent == 0
        await world.clock.elapse(2.0)
        assert world.sent == 1
        assert not world.engine.is_expired()
        await world.clock.elapse(3000.0)
        assert world.sent == 11, "each after half of its time"
        assert len(set(world.authority.sent)) == world.sent, "no refresh token was sent twice"


async def test_a_login_that_expired_before_is_refreshed_at_once() -> None:
    world = World()
    world.clock.advance(700.0)
    async with world.engine, world.engine.background():
        await world.clock.settle()
        assert (world.sent, world.clock.slept) == (1, [1.0])


async def test_without_keep_fresh_only_callers_refresh() -> None:
    async with World.open(keep_fresh=False) as world:
        await world.clock.elapse(700.0)
        assert world.sent == 0


@pytest.mark.parametrize("stored", [None, ApiKey.parse("sk-1")])
async def test_sign_ins_and_sign_outs_of_another_process_are_applied_within_a_second(
    stored: Credentials | None,
) -> None:
    async with World.open() as world:
        world.store.credentials = stored
        await world.clock.elapse(1.0)
        assert world.engine.session.credentials is stored
        world.store.credentials = world.authority.issue(account_id="org-2")
        await world.clock.elapse(1.0)
        assert world.engine.session.account is not None and world.engine.session.account.account_id == "org-2"


async def test_tokens_of_another_process_cost_no_refresh_token() -> None:
    """They are adopted when the own ones get old, not before: a request may be under way with those."""
    async with World.open() as world:
        await world.clock.elapse(200.0)
        world.store.credentials = newer = world.authority.issue()
        await world.clock.elapse(60.0)
        assert world.engine.session.credentials is world.tokens
        await world.clock.elapse(200.0)
        assert world.engine.session.credentials is newer
        assert world.sent == 0


@pytest.mark.parametrize("is_idle", [True, False])
async def test_what_is_under_way_keeps_its_token(is_idle: bool) -> None:
    async with World.open(is_idle=lambda: is_idle) as world:
        world.store.credentials = newer = world.authority.issue()
        await world.clock.elapse(2.0)
        assert (world.engine.session.credentials is newer) == is_idle


@pytest.mark.parametrize(
    ("is_idle", "adopt", "switch"), [(None, False, True), (lambda: True, True, True), (lambda: False, False, False)]
)
async def test_it_follows_before_it_refreshes_and_a_program_says_what_may_change(
    is_idle: Callable[[], bool] | None, adopt: bool, switch: bool
) -> None:
    """A sign-in of another process comes first: the refresh is then of that login."""
    did: list[object] = []

    async def follow(**options: bool) -> None:
        did.append(options)

    clock = ManualClock()
    background = Background(lambda: did.append("refresh"), follow, is_idle, clock, Listeners())
    async with background:
        await clock.elapse(1.0)
    assert did == ["refresh", {"adopt": adopt, "switch": switch}, "refresh"]


async def test_when_it_has_stopped_no_look_is_under_way() -> None:
    did: list[str] = []

    async def follow(**options: bool) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            did.append("left")

    clock = ManualClock()
    background = Background(lambda: None, follow, None, clock, Listeners())
    background.start()
    await clock.elapse(1.0)
    await background.stop()
    assert did == ["left"]


async def test_a_stop_that_is_cancelled_ends_it_and_it_can_be_started_again() -> None:
    clock = ManualClock()

    async def follow(**options: bool) -> None:
        raise AssertionError("it is stopped before")

    background = Background(lambda: None, follow, None, clock, Listeners())
    background.start()
    await clock.until_asleep()
    stopping = asyncio.create_task(background.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait((stopping,))
    assert clock.sleepers == 0
    background.start()
    await clock.until_asleep()
    await background.stop()


async def test_an_issuer_that_is_down_is_asked_again_after_each_pause() -> None:
    async with World.open() as world:
        world.authority.fail_next(DOWN, times=3)
        await world.clock.elapse(301.0)
        assert world.sent == 1
        await world.clock.elapse(20.0)
        assert world.sent == 1, "the pause after a failed refresh is 30 s"
        await world.clock.elapse(100.0)
        assert world.sent == 4
        assert not world.engine.is_expired() and world.engine.pause_reason is None


async def test_a_refresh_token_that_may_be_spent_is_left_to_a_caller_who_needs_it() -> None:
    async with World.open() as world:
        world.authority.fail_next(LOST, times=2)
        await world.clock.elapse(700.0)
        assert len(set(world.authority.sent)) == 1
        before = world.sent
        await world.clock.elapse(700.0)
        assert world.sent == before, "the token has expired, and nobody needs one"
        await world.engine.authorization()
        assert world.sent == before + 1


async def test_a_dead_refresh_token_is_sent_once_and_a_sign_in_elsewhere_is_found() -> None:
    async with World.open() as world:
        world.authority.kill(RefreshDeadReason.REVOKED)
        await world.clock.elapse(700.0)
        assert world.sent == 1
        assert world.engine.session.state is AuthState.REFRESH_DEAD
        world.store.credentials = world.authority.issue()
        await world.clock.elapse(2.0)
        assert world.engine.session.state is AuthState.CHATGPT


async def test_a_store_that_fails_is_looked_at_again() -> None:
    async with World.open() as world:
        load, world.store.load = world.store.load, fail_with(StoreUnavailable("the disk is away"))
        await world.clock.elapse(10.0)
        world.store.load = load
        world.store.credentials = None
        await world.clock.elapse(90.0)
        assert world.engine.session.state is AuthState.LOGGED_OUT


async def test_a_store_with_a_bug_is_reported_once_and_looked_at_again() -> None:
    async with World.open() as world:
        load, world.store.load = world.store.load, fail_with(KeyError("canary"))
        await world.clock.elapse(10.0)
        [warning] = world.warnings()
        assert warning.code == "background_failed" and "KeyError" in warning.message
        assert "canary" not in warning.message
        world.store.load = load
        world.store.credentials = None
        await world.clock.elapse(2.0)
        assert world.engine.session.state is AuthState.LOGGED_OUT
        world.store.load = fail_with(KeyError("canary"))
        await world.clock.elapse(10.0)
        assert len(world.warnings()) == 2


def fail_with(error: Exception) -> Any:
    async def fail() -> Credentials | None:
        raise error

    return fail


async def test_it_ends_when_it_is_left_and_a_refresh_that_it_began_goes_on() -> None:
    world = World()
    world.clock.advance(700.0)
    world.authority.hold()
    async with world.engine:
        async with world.engine.background():
            await world.authority.asked()
        assert world.clock.sleepers == 0
        assert world.engine.is_refreshing
        world.authority.release()
        assert (await world.engine.authorization()).expires_at == world.clock.now() + 600.0
    assert world.sent == 1


async def test_it_can_be_started_and_stopped_and_started_again() -> None:
    async with World().engine as engine:
        clock = engine._flows.backgrounds._clock
        assert isinstance(clock, ManualClock)
        background = engine.background()
        await background.stop()
        for _ in range(2):
            background.start()
            background.start()
            await clock.settle()
            assert clock.sleepers == 1
            await background.stop()
            assert clock.sleepers == 0


async def test_the_end_of_the_engine_ends_it() -> None:
    world = World()
    await world.engine.start()
    background, unused = world.engine.background(), world.engine.background()
    background.start()
    await world.clock.settle()
    assert world.clock.sleepers == 1
    await world.engine.close()
    await world.clock.settle()
    assert world.clock.sleepers == 0
    for ended in (background, unused):
        await ended.stop()


@pytest.mark.parametrize("keep_fresh", [True, False])
async def test_it_does_not_begin_on_an_engine_that_was_closed(keep_fresh: bool) -> None:
    world = World()
    world.clock.advance(700.0)
    await world.engine.start()
    background = world.engine.background(keep_fresh=keep_fresh)
    await world.engine.close()
    with pytest.raises(EngineClosed):
        background.start()
    await world.clock.settle()
    assert (world.sent, world.clock.slept) == (0, [])


async def test_a_look_at_an_engine_that_was_closed_meanwhile_ends_it() -> None:
    world = World()
    await world.engine.start()
    background = world.engine.background()
    background.start()
    await world.clock.settle()
    world.engine._life.close()
    await world.clock.elapse(5.0)
    assert world.clock.slept == [1.0]
    assert world.warnings() == []
    await background.stop()
