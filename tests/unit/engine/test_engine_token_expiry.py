"""A token is about to expire, and has expired: told once for each token, whoever drives the engine."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens
from authstate.engine.model.events import Event, RefreshStarted, StateChanged, TokenExpired, TokenExpiring
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_external_tokens, make_tokens


class World:
    """An engine whose clock the test controls."""

    def __init__(self, expires_in: float | None = 1000.0, refresh_token: str | None = None) -> None:
        self.clock = ManualClock()
        self.now = self.clock.now()
        self.tokens = make_tokens(expires_in=expires_in, now=self.now, refresh_token=refresh_token)
        self.authority = FakeAuthority(self.tokens, clock=self.clock)
        self.engine = AuthEngine(MemoryStore(self.tokens), self.authority, clock=self.clock)
        self.heard: list[tuple[str, float]] = []
        self.engine.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, TokenExpiring | TokenExpired):
            assert event.generation == self.engine.session.generation
            tokens = self.engine.session.credentials
            assert isinstance(tokens, ChatgptTokens | ExternalTokens) and tokens.expires_at == event.expires_at
            self.heard.append((type(event).__name__, round(self.clock.now() - self.now, 1)))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.engine:
        yield made


async def test_a_stream_gets_them_at_their_moments_although_nobody_calls() -> None:
    world = World()
    events = world.engine.events()
    async with world.engine:
        await world.clock.elapse(2000)
    assert world.heard == [("TokenExpiring", 700.0), ("TokenExpired", 1000.0)]
    assert [type(event) for event in [event async for event in events]] == [StateChanged, TokenExpiring, TokenExpired]


async def test_a_wait_is_never_so_short_that_the_clock_stands_still() -> None:
    """Else the timer would ring again and again at the same time."""
    world = World(expires_in=300.000001)
    async with world.engine, world.engine.events():
        await world.clock.elapse(1.0)
    assert world.heard == [("TokenExpiring", 0.0)]
    assert world.clock.slept[0] == pytest.approx(0.001)


async def test_so_does_a_coroutine_function(world: World) -> None:
    async def listener(event: Event) -> None:
        pass

    end = world.engine.subscribe(listener)
    await world.clock.elapse(800)
    end()
    await world.clock.elapse(800)
    assert world.heard == [("TokenExpiring", 700.0)]
    assert world.clock.sleepers == 0


async def test_without_a_stream_there_is_no_timer(world: World) -> None:
    await world.clock.elapse(2000)
    assert world.heard == []
    assert world.clock.sleepers == 0 and world.clock.slept == []


async def test_whoever_follows_gets_them_at_the_next_look(world: World) -> None:
    for _ in range(250):
        await world.clock.elapse(5)
        await world.engine.follow()
    assert world.heard == [("TokenExpiring", 700.0), ("TokenExpired", 1000.0)]


async def test_a_check_looks_and_a_refresh_looks_before_it_begins(world: World) -> None:
    events: list[Event] = []
    world.engine.subscribe(events.append)
    world.clock.advance(800)
    await world.engine.refresh()
    assert [type(event) for event in events[:2]] == [TokenExpiring, RefreshStarted]
    world.clock.advance(3500)
    await world.engine.check(0)
    assert [name for name, _ in world.heard] == ["TokenExpiring", "TokenExpiring"]


async def test_a_token_that_is_replaced_in_time_never_expires() -> None:
    world = World()
    stream = world.engine.events()
    async with world.engine:
        for _ in range(100):
            await world.clock.elapse(60)
            await world.engine.authorization()
    await stream.aclose()
    assert {name for name, _ in world.heard} == {"TokenExpiring"}
    assert len(world.heard) == len(world.authority.sent)


async def test_one_that_had_expired_before_anybody_looked_is_not_about_to() -> None:
    world = World(expires_in=-5)
    async with world.engine:
        await world.engine.follow()
        await world.engine.follow()
    assert world.heard == [("TokenExpired", 0.0)]


@pytest.mark.parametrize("kind", ["key", "without exp", "nobody"])
async def test_what_does_not_expire_is_left_alone(kind: str) -> None:
    world = World(expires_in=None if kind == "without exp" else 1000.0)
    async with world.engine:
        if kind == "key":
            await world.engine.use_api_key(ApiKey.parse("sk-key"))
        elif kind == "nobody":
            await world.engine.log_out()
        async with world.engine.events():
            await world.clock.elapse(3000)
            await world.engine.follow()
    assert world.heard == []


async def test_external_tokens_and_tokens_without_a_refresh_token_expire_too() -> None:
    for world in (World(refresh_token=""), World()):
        async with world.engine, world.engine.events():
            if world.tokens.can_refresh:
                await world.engine.use_external_tokens(make_external_tokens(expires_in=1000, now=world.now))
            await world.clock.elapse(2000)
        assert world.heard == [("TokenExpiring", 700.0), ("TokenExpired", 1000.0)]


async def test_a_computer_that_slept_is_late_by_a_minute_at_most(world: World) -> None:
    async with world.engine.events():
        await world.clock.elapse(10)
        world.clock.jump_wall(5000)
        await world.clock.elapse(60)
    assert [name for name, _ in world.heard] == ["TokenExpired"]


async def test_a_clock_that_goes_back_repeats_nothing(world: World) -> None:
    async with world.engine.events():
        await world.clock.elapse(750)
        world.clock.jump_wall(-700)
        await world.clock.elapse(1000)
    assert [name for name, _ in world.heard] == ["TokenExpiring", "TokenExpired"]


async def test_the_same_token_that_comes_back_is_not_told_again(world: World) -> None:
    await world.clock.elapse(750)
    await world.engine.follow()
    for number in range(3):
        await world.engine.use_api_key(ApiKey.parse(f"sk-{number}"))
        await world.engine.complete_chatgpt_login(world.tokens)
        await world.engine.follow()
    assert world.heard == [("TokenExpiring", 750.0)]


async def test_only_the_last_tokens_are_remembered(world: World) -> None:
    told = world.engine._flows.expiry._expiring
    await world.engine.use_external_tokens(make_external_tokens(expires_in=10, now=world.clock.now()))
    await world.engine.follow()
    for number in range(100):
        await world.engine.use_external_tokens(
            make_external_tokens(expires_in=11 + number, now=world.clock.now(), user_id=f"user-{number}")
        )
        await world.engine.follow()
    assert len(told._tokens) == 64 and len(world.heard) == 101


async def test_no_timer_is_left_after_the_end() -> None:
    world = World()
    events = world.engine.events()
    async with world.engine:
        await world.clock.settle()
        assert world.clock.sleepers == 1
    await world.clock.settle()
    assert world.clock.sleepers == 0
    world.engine._flows.expiry.watch()
    assert world.clock.sleepers == 0
    await events.aclose()


@given(st.lists(st.sampled_from([1.0, 60.0, 300.0, 1000.0, -500.0]), max_size=8), st.booleans())
async def test_each_token_is_told_at_most_once_and_in_order(moves: list[float], is_watched: bool) -> None:
    world = World()
    told: dict[float, list[str]] = {}

    def hear(event: Event) -> None:
        if isinstance(event, TokenExpiring | TokenExpired):
            told.setdefault(event.expires_at, []).append(type(event).__name__)

    world.engine.subscribe(hear)
    async with world.engine:
        stream = world.engine.events() if is_watched else None
        for seconds in moves:
            if seconds < 0:
                world.clock.jump_wall(seconds)
            else:
                await world.clock.elapse(seconds)
            await world.engine.follow()
            if seconds == 60.0:
                await world.engine.authorization()
        if stream is not None:
            await stream.aclose()
    await asyncio.sleep(0)
    for names in told.values():
        assert names in (["TokenExpiring"], ["TokenExpired"], ["TokenExpiring", "TokenExpired"])
