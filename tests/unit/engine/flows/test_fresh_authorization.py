"""The fast path to a token: when it returns one, and that it never differs from `authorization`."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate import (
    ApiKey,
    AuthEngine,
    Authorization,
    Credentials,
    EngineClosed,
    EngineNotStarted,
    InvalidCredentials,
    PersonalAccessToken,
    RefreshDeadReason,
    RefreshSettings,
    Secret,
    Urgency,
)
from authstate.engine.flows.refresh_urgency import fresh_until, urgency_of
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ChatgptTokens
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_external_tokens, make_tokens

SETTINGS = RefreshSettings()
NOW = 1_800_000_000.0


class World:
    """An open engine, and a clock in the test's hand."""

    def __init__(self, stored: Credentials | None) -> None:
        self.clock = ManualClock(NOW)
        self.authority = FakeAuthority(*([stored] if isinstance(stored, ChatgptTokens) else []), clock=self.clock)
        self.store = MemoryStore(stored)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock)

    @classmethod
    async def open(cls, stored: Credentials | None) -> "World":
        world = cls(stored)
        await world.engine.start()
        return world


def tokens(expires_in: float | None = 3600.0, **more: Any) -> ChatgptTokens:
    return make_tokens(expires_in=expires_in, now=NOW, **more)


async def test_it_is_the_same_object_until_the_session_changes() -> None:
    world = await World.open(tokens())
    fresh = world.engine.fresh_authorization()
    assert fresh is not None and fresh == Authorization.of(world.engine.session)
    assert world.engine.fresh_authorization() is fresh
    assert await world.engine.authorization() is fresh
    await world.engine.refresh()
    newer = world.engine.fresh_authorization()
    assert newer is not None and newer.token != fresh.token


@pytest.mark.parametrize("left", [300.0, 299.0, 29.0, 0.0, -1.0])
async def test_a_token_that_is_refreshed_soon_is_not_fresh(left: float) -> None:
    world = await World.open(tokens())
    world.clock.advance(3600.0 - left - 1)
    assert (world.engine.fresh_authorization() is not None) == (left >= 300.0)
    world.clock.advance(1)
    assert world.engine.fresh_authorization() is None


@pytest.mark.parametrize(("min_lifetime", "is_fresh"), [(0.0, True), (3600.0, True), (3600.1, False), (-5.0, True)])
async def test_a_token_must_last_as_long_as_asked(min_lifetime: float, is_fresh: bool) -> None:
    world = await World.open(tokens())
    assert (world.engine.fresh_authorization(min_lifetime) is not None) == is_fresh


@pytest.mark.parametrize(
    "stored",
    [ApiKey.parse("sk-1"), PersonalAccessToken(Secret("at-1"), Account(account_id="org-1")), tokens(None)],
    ids=lambda one: type(one).__name__,
)
async def test_what_does_not_expire_is_always_fresh(stored: Credentials) -> None:
    world = await World.open(stored)
    world.clock.advance(1e6 if not isinstance(stored, ChatgptTokens) else 3600.0)
    fresh = world.engine.fresh_authorization(1e9)
    assert fresh == await world.engine.authorization(1e9)


async def test_external_tokens_are_the_parents_to_renew() -> None:
    world = await World.open(None)
    await world.engine.use_external_tokens(make_external_tokens(now=NOW, expires_in=10.0))
    world.clock.advance(60.0)
    assert world.engine.fresh_authorization(600.0) == await world.engine.authorization(600.0)


async def test_nobody_an_unknown_owner_and_a_dead_token_need_the_long_way() -> None:
    assert (await World.open(None)).engine.fresh_authorization() is None
    assert (await World.open(PersonalAccessToken.parse("at-1"))).engine.fresh_authorization() is None
    dead = await World.open(tokens(-1.0))
    dead.authority.kill(RefreshDeadReason.REVOKED)
    await dead.engine.check()
    dead.clock.jump_wall(-3600.0)
    assert dead.engine.fresh_authorization() is None, "the store may hold newer tokens"


async def test_before_the_start_and_after_the_end_it_says_so() -> None:
    world = World(tokens())
    with pytest.raises(EngineNotStarted):
        world.engine.fresh_authorization()
    await world.engine.start()
    assert await asyncio.to_thread(world.engine.fresh_authorization) is not None, "any thread may call it"
    await world.engine.close()
    with pytest.raises(EngineClosed):
        await asyncio.to_thread(world.engine.fresh_authorization)


async def test_what_is_kept_of_a_session_goes_with_it() -> None:
    world = await World.open(tokens())
    world.engine.fresh_authorization()
    await world.engine.log_out()
    assert world.engine._flows.fresh._kept.authorization is None


async def test_a_thread_that_is_late_keeps_nothing_of_an_older_session() -> None:
    """The session changes after the thread has read it and before it keeps what it made of it."""
    world = await World.open(tokens())
    fresh = world.engine._flows.fresh
    older = world.engine.session
    await world.engine.log_out()
    late = fresh._keep(older)
    assert late.authorization is not None and late.authorization.generation == older.generation
    assert fresh._kept.authorization is None
    assert world.engine.fresh_authorization() is None


@given(
    now=st.floats(NOW - 1e7, NOW + 1e7),
    expires_in=st.none() | st.floats(-1e5, 1e5),
    refreshed_ago=st.none() | st.floats(-1e3, 1e7),
    can_refresh=st.booleans(),
)
def test_before_that_time_no_refresh_is_urgent(
    now: float, expires_in: float | None, refreshed_ago: float | None, can_refresh: bool
) -> None:
    made = ChatgptTokens(
        id_token=Secret("id"),
        access_token=Secret("access"),
        refresh_token=Secret("refresh" if can_refresh else ""),
        account=Account(),
        expires_at=None if expires_in is None else NOW + expires_in,
        last_refresh=None if refreshed_ago is None else NOW - refreshed_ago,
    )
    until = fresh_until(made, SETTINGS)
    assert (now >= until) or urgency_of(made, now, SETTINGS) is Urgency.NONE
    assert until == float("inf") or urgency_of(made, until + 1.0, SETTINGS) is not Urgency.NONE


def test_the_headers_are_made_once_and_belong_to_who_asked() -> None:
    authorization = Authorization(Secret("canary"), "org-1", 1)
    headers = authorization.headers()
    assert headers == {"Authorization": "Bearer canary", "chatgpt-account-id": "org-1"}
    headers.clear()
    assert authorization.headers()["Authorization"] is authorization.headers()["Authorization"]
    assert "canary" not in f"{authorization!r} {vars(authorization)!r}"


@pytest.mark.parametrize(("token", "account"), [("white space", None), ("", None), ("good", "a\nb")])
def test_headers_that_cannot_be_sent_are_refused_each_time(token: str, account: str | None) -> None:
    authorization = Authorization(Secret(token), account, 1)
    for _ in range(2):
        with pytest.raises(InvalidCredentials):
            authorization.headers()


async def test_an_authorization_is_freed_with_its_session() -> None:
    world = await World.open(tokens())
    fresh = world.engine.fresh_authorization()
    assert fresh is not None
    kept: weakref.ref[Any] = weakref.ref(world.engine._flows.fresh)
    del fresh
    await world.engine.close()
    del world
    gc.collect()
    assert kept() is None
