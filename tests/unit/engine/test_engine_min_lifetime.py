"""A caller that needs a token that lasts: what is refreshed early, and what is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from authstate import ApiKey, AuthEngine, AuthState, IssuerUnavailable, PermanentRefreshError
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import Delivery, StoreUnavailable
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.ports import HeldStore
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens

NO_RETRIES = RefreshSettings(total=0.0)
OLD = 1000.0  # seconds since the last refresh


class Store(MemoryStore):
    """A store whose lock may fail."""

    fault: StoreUnavailable | None = None

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        if self.fault is not None:
            raise self.fault
        async with super().locked() as held:
            yield held


class World:
    """An engine on tokens that were refreshed a while ago.

    Args:
        expires_in: seconds until the access token expires.
        issues: how long the tokens last that a refresh brings.
        age: seconds since the last refresh.
    """

    def __init__(
        self, expires_in: float | None = 500.0, issues: float | None = 3600.0, age: float | None = OLD
    ) -> None:
        self.clock = ManualClock()
        self.tokens = self.aged(make_tokens(expires_in=expires_in, now=self.clock.now()), age)
        self.authority = FakeAuthority(self.tokens, clock=self.clock, expires_in=issues)
        self.store = Store(self.tokens)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock, settings=NO_RETRIES)

    def aged(self, tokens: ChatgptTokens, age: float | None) -> ChatgptTokens:
        last_refresh = None if age is None else self.clock.now() - age
        return msgspec.structs.replace(tokens, last_refresh=last_refresh)

    async def lasts(self, min_lifetime: float) -> float | None:
        """How many seconds the token lasts that a caller gets."""
        expires_at = (await self.engine.authorization(min_lifetime)).expires_at
        return None if expires_at is None else expires_at - self.clock.now()

    @property
    def sent(self) -> int:
        return len(self.authority.sent)


@pytest.mark.parametrize("asked", [0.0, 400.0, 500.0])
async def test_a_token_that_lasts_long_enough_is_not_refreshed(asked: float) -> None:
    world = World()
    async with world.engine:
        assert await world.lasts(asked) == 500
    assert world.sent == 0


async def test_a_token_that_lasts_shorter_is_refreshed_once_for_all_callers() -> None:
    world = World()
    async with world.engine:
        assert set(await asyncio.gather(*(world.lasts(600) for _ in range(100)))) == {3600}
    assert world.sent == 1


async def test_the_caller_waits_for_the_refresh_although_the_token_has_not_expired() -> None:
    world = World()
    world.authority.hold()
    async with world.engine:
        asking = asyncio.create_task(world.lasts(600))
        await world.authority.asked()
        world.clock.advance(25.0)
        await world.clock.settle()
        assert not asking.done()
        world.authority.release()
        assert await asking == 3600 - 25
    assert world.sent == 1


async def test_a_cancelled_caller_cancels_no_refresh() -> None:
    world = World()
    world.authority.hold()
    async with world.engine as engine:
        asking = asyncio.create_task(engine.authorization(600))
        await world.authority.asked()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        world.authority.release()
        assert await world.lasts(600) == 3600
    assert world.sent == 1


@pytest.mark.parametrize("age", [OLD, None])
async def test_an_issuer_with_shorter_tokens_is_asked_once_a_minute(age: float | None) -> None:
    world = World(issues=500.0, age=age)
    async with world.engine:
        for _ in range(5):
            assert await world.lasts(86_400) == 500
        assert world.sent == 1
        world.clock.advance(61)
        for _ in range(5):
            assert await world.lasts(86_400) == 500
        assert world.sent == 2


async def test_tokens_that_another_process_just_refreshed_are_as_long_as_they_get() -> None:
    world = World(age=30.0)
    async with world.engine:
        assert await world.lasts(600) == 500
    assert world.sent == 0


async def test_tokens_of_another_process_that_last_long_enough_are_adopted() -> None:
    world = World()
    async with world.engine:
        world.store.credentials = world.authority.accept(make_tokens(expires_in=3000, now=world.clock.now()))
        assert await world.lasts(600) == 3000
    assert world.sent == 0


async def test_tokens_of_another_process_that_last_too_short_are_refreshed() -> None:
    world = World()
    async with world.engine:
        stored = world.authority.accept(make_tokens(expires_in=550, now=world.clock.now()))
        world.store.credentials = world.aged(stored, OLD)
        assert await world.lasts(600) == 3600
    assert world.sent == 1


async def test_an_issuer_that_cannot_be_asked_costs_one_try_in_a_pause() -> None:
    world = World()
    world.authority.fail_next(IssuerUnavailable("503", delivery=Delivery.REFUSED), times=100)
    async with world.engine as engine:
        for _ in range(5):
            assert await world.lasts(600) == 500
        assert world.sent == 1
        assert engine.pause_reason is not None
        world.clock.advance(31)
        assert await world.lasts(600) == 500 - 31
    assert world.sent == 2


async def test_a_refresh_token_in_doubt_is_not_sent_for_it() -> None:
    world = World()
    world.authority.fail_next(IssuerUnavailable("reset", delivery=Delivery.UNKNOWN), times=2)
    async with world.engine:
        assert await world.lasts(600) == 500
        sent = world.sent
        world.clock.advance(100)
        assert await world.lasts(600) == 400
    assert world.sent == sent


async def test_a_dead_refresh_token_leaves_the_access_token() -> None:
    world = World()
    world.authority.kill()
    async with world.engine as engine:
        for _ in range(3):
            assert await world.lasts(600) == 500
        assert engine.session.state is AuthState.REFRESH_DEAD
        world.clock.advance(501)
        with pytest.raises(PermanentRefreshError):
            await engine.authorization(600)
    assert world.sent == 1


async def test_a_token_that_expires_during_a_refresh_that_fails_is_not_returned() -> None:
    world = World(expires_in=40.0)
    world.authority.fail_next(IssuerUnavailable("503", delivery=Delivery.REFUSED))
    world.authority.hold()
    async with world.engine as engine:
        asking = asyncio.create_task(engine.authorization(600))
        await world.authority.asked()
        world.clock.advance(41)
        world.authority.release()
        with pytest.raises(IssuerUnavailable):
            await asking


async def test_a_store_that_cannot_be_locked_leaves_the_access_token() -> None:
    world = World()
    async with world.engine:
        world.store.fault = StoreUnavailable("the disk is full")
        assert await world.lasts(600) == 500
        world.store.fault = None
        assert await world.lasts(600) == 500  # a pause
        world.clock.advance(31)
        assert await world.lasts(600) == 3600


async def test_a_login_without_a_refresh_token_is_left_alone() -> None:
    world = World()
    world.store.credentials = msgspec.structs.replace(world.tokens, refresh_token=Secret(""))
    async with world.engine:
        assert await world.lasts(600) == 500
    assert world.sent == 0


async def test_an_unknown_expiry_and_an_api_key_need_no_refresh() -> None:
    world = World(expires_in=None)
    async with world.engine as engine:
        assert await world.lasts(600) is None
        await engine.use_api_key(ApiKey.parse("sk-example"))
        assert await world.lasts(600) is None
    assert world.sent == 0


async def test_the_authorization_says_when_the_token_expires() -> None:
    world = World()
    async with world.engine as engine:
        assert (await engine.authorization()).expires_at == world.tokens.expires_at
