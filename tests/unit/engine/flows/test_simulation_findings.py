"""What the simulation found in the engine, each as small as it can be told."""

import asyncio
from random import Random
from typing import Any

import msgspec
import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.flows.pending_tokens import PendingTokens
from authstate.engine.flows.refresh import Refresher
from authstate.engine.flows.refresh_retries import RefreshProgress
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.model.errors import PermanentRefreshError, RefreshDeadReason, StoreUnavailable
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState
from authstate.engine.ports import HeldStore
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens


class World:
    """An engine over a memory store that can be changed underneath."""

    def __init__(self, expires_in: float = 3600.0) -> None:
        self.clock = ManualClock()
        self.tokens = make_tokens(expires_in=expires_in, now=self.clock.now())
        self.authority = FakeAuthority(self.tokens, clock=self.clock)
        self.store = MemoryStore(self.tokens)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock)

    def rotate_elsewhere(self) -> ChatgptTokens:
        """Another process got a new refresh token, and no access token with it."""
        rotated = msgspec.structs.replace(self.tokens, refresh_token=Secret("rt-rotated"))
        self.store.credentials = self.authority.accept(rotated)
        return rotated


async def test_a_401_is_not_answered_by_a_new_refresh_token_beside_the_refused_access_token() -> None:
    world = World()
    await world.engine.start()
    refused = await world.engine.authorization()
    world.rotate_elsewhere()
    again = await world.engine.recover(refused)
    assert again.token != refused.token
    assert world.authority.sent == ["rt-rotated"]


async def test_a_refresh_goes_on_when_it_finds_no_more_than_a_new_refresh_token() -> None:
    world = World(expires_in=-1)
    await world.engine.start()
    world.rotate_elsewhere()
    assert (await world.engine.authorization()).token == world.authority.grants[0].access_token
    assert world.authority.sent == ["rt-rotated"]


async def test_a_dead_login_that_finds_no_more_than_a_new_refresh_token_spends_it() -> None:
    world = World()
    await world.engine.start()
    world.authority.kill(RefreshDeadReason.EXPIRED)
    with pytest.raises(PermanentRefreshError):
        await world.engine.refresh()
    world.rotate_elsewhere()
    session = await world.engine.refresh()
    assert session.state is AuthState.CHATGPT
    assert world.authority.sent == [world.tokens.refresh_token.reveal(), "rt-rotated"]


async def test_a_refresh_that_waited_for_a_login_does_not_spend_what_the_login_brought() -> None:
    world = World()
    await world.engine.start()
    async with world.store.locked():
        login = asyncio.create_task(world.engine.complete_chatgpt_login(world.authority.issue()))
        await world.clock.settle()
        refresh = asyncio.create_task(world.engine.refresh())
        await world.clock.settle()
    await login
    assert (await refresh).credentials == world.store.credentials
    assert world.authority.sent == []


class Flaky(MemoryStore):
    """A store that cannot be read as often as it is told, under the lock."""

    unreadable = 0
    saves_fail_late = False

    async def load(self) -> Credentials | None:
        if self.unreadable:
            self.unreadable -= 1
            raise StoreUnavailable("the disk failed")
        return await super().load()


async def test_a_disk_that_fails_after_the_refusal_does_not_make_the_dead_token_live() -> None:
    clock = ManualClock()
    tokens = make_tokens(expires_in=-1, now=clock.now())
    store, authority = Flaky(tokens), FakeAuthority(tokens, clock=clock)
    engine = AuthEngine(store, authority, clock=clock, settings=RefreshSettings(rechecks=(0.0, 0.0)))
    await engine.start()
    await authority.refresh(tokens.refresh_token)  # a program without our lock

    authority.hold()
    refresh = asyncio.create_task(engine.refresh())
    await authority.asked(2)
    store.unreadable = 2
    authority.release()
    with pytest.raises(PermanentRefreshError):
        await refresh
    with pytest.raises(PermanentRefreshError):
        await engine.refresh()
    assert len(authority.sent) == 2


class Unconfirmed(MemoryStore):
    """A store whose saves are visible before they fail, once each time it is told."""

    failing = 0

    def locked(self) -> Any:  # the annotation would only repeat the port's
        return _Unconfirming(self, super().locked())


class _Unconfirming:
    def __init__(self, store: Unconfirmed, inner: Any) -> None:
        self._store, self._inner = store, inner

    async def __aenter__(self) -> HeldStore:
        held: HeldStore = await self._inner.__aenter__()
        save = held.save

        async def save_and_fail(credentials: Credentials) -> None:
            await save(credentials)
            if self._store.failing:
                self._store.failing -= 1
                raise StoreUnavailable("changed, but the disk did not confirm it")

        held.save = save_and_fail
        return held

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)


async def test_tokens_that_the_disk_did_not_confirm_are_stored_again_before_they_are_used() -> None:
    clock = ManualClock()
    tokens = make_tokens(expires_in=-1, now=clock.now())
    store, authority = Unconfirmed(tokens), FakeAuthority(tokens, clock=clock)
    settings = RefreshSettings(save_waits=(0.0,))
    pending = PendingTokens(clock, settings.save_waits, lambda code, message: None)
    refresher = Refresher(store, authority, clock, Random(1), settings, pending, lambda code, message: None)
    store.failing = 1
    with pytest.raises(StoreUnavailable):
        await refresher.run(tokens, lambda: False, RefreshProgress())
    assert store.credentials != tokens
    renewal = await refresher.run(tokens, lambda: False, RefreshProgress())
    assert (renewal.was_adopted, store.saves, len(authority.sent)) == (False, 2, 1)


async def test_a_look_into_the_store_does_not_use_what_the_disk_did_not_confirm() -> None:
    clock = ManualClock()
    tokens = make_tokens(now=clock.now())
    store, authority = Unconfirmed(tokens), FakeAuthority(tokens, clock=clock)
    engine = AuthEngine(store, authority, clock=clock, settings=RefreshSettings(save_waits=(0.0,)))
    await engine.start()
    store.failing = 1
    with pytest.raises(StoreUnavailable):
        await engine.refresh()
    assert not await engine.reload()
    assert (await engine.refresh()).credentials == store.credentials
    assert (store.saves, len(authority.sent)) == (2, 1)


def test_sessions_share_access_when_they_share_the_access_token() -> None:
    tokens = make_tokens()
    mine = Session(AuthState.CHATGPT, tokens)
    assert mine.has_same_access_as(Session(AuthState.CHATGPT, msgspec.structs.replace(tokens, last_refresh=1.0)))
    assert not mine.has_same_access_as(Session(AuthState.CHATGPT, make_tokens()))
    assert not mine.has_same_access_as(Session())
