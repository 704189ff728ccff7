"""A store whose lock costs writes: a refresh that finds the tokens of another process takes no lock."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from authstate import (
    ApiKey,
    AuthEngine,
    AuthState,
    ChatgptTokens,
    Credentials,
    HeldStore,
    MemoryStore,
    PermanentRefreshError,
    StoreUnavailable,
)
from authstate.testing import FakeAuthority, make_tokens

TOKENS = make_tokens(expires_in=-60.0)


class SharedStore(MemoryStore):
    """Counts how often its lock was taken."""

    locks = 0

    @asynccontextmanager
    async def locked_unless(self, find: Callable[[], Awaitable[Any]]) -> AsyncIterator[Any]:
        if (found := await find()) is not None:
            yield found
            return
        async with self.locked() as held:
            self.locks += 1
            yield held


class WrappedStore:
    """A wrapper with a lock of its own, which passes on all else."""

    def __init__(self, inner: SharedStore) -> None:
        self.inner = inner
        self.locks = 0

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        async with self.inner.locked() as held:
            self.locks += 1
            yield held

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def store_elsewhere(store: MemoryStore, credentials: Credentials | None) -> None:
    """What another process does."""
    async with MemoryStore.locked(store) as held:
        await (held.delete() if credentials is None else held.save(credentials))


async def test_the_tokens_of_another_process_are_adopted_without_the_lock() -> None:
    store, authority = SharedStore(TOKENS), FakeAuthority(TOKENS)
    newer = make_tokens()
    async with AuthEngine(store, authority) as engine:
        await store_elsewhere(store, newer)
        authorization = await engine.authorization()
    assert authorization.token.reveal() == newer.access_token.reveal()
    assert (store.locks, authority.sent) == (0, [])


async def test_a_refresh_takes_the_lock_once() -> None:
    store, authority = SharedStore(TOKENS), FakeAuthority(TOKENS)
    async with AuthEngine(store, authority) as engine:
        await engine.authorization()
    assert (store.locks, authority.sent) == (1, [TOKENS.refresh_token.reveal()])


@pytest.mark.parametrize("stored", [None, ApiKey.parse("sk-other-0123456789"), make_tokens(account_id="org-other")])
async def test_another_login_is_a_permanent_error_only_under_the_lock(stored: Credentials | None) -> None:
    store, authority = SharedStore(TOKENS), FakeAuthority(TOKENS)
    async with AuthEngine(store, authority) as engine:
        await store_elsewhere(store, stored)
        with pytest.raises(PermanentRefreshError):
            await engine.authorization()
        assert engine.session.state is AuthState.REFRESH_DEAD
    assert (store.locks, authority.sent) == (1, [])


async def test_tokens_that_this_process_replaced_are_not_adopted() -> None:
    store, authority = SharedStore(TOKENS), FakeAuthority(TOKENS, expires_in=-60.0)
    async with AuthEngine(store, authority) as engine:
        await engine.refresh()
        await store_elsewhere(store, TOKENS)  # somebody restored a backup
        await engine.refresh()
    assert store.locks == 2
    assert len(set(authority.sent)) == len(authority.sent) == 2


async def test_tokens_that_are_not_stored_yet_are_stored_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    store, authority = SharedStore(TOKENS), FakeAuthority(TOKENS)
    async with AuthEngine(store, authority) as engine:
        with monkeypatch.context() as failing:
            failing.setattr(store, "locked", _without_room(store))
            with pytest.raises(StoreUnavailable):
                await engine.authorization()
        await engine.authorization()
    assert len(authority.sent) == 1
    stored = await store.load()
    assert isinstance(stored, ChatgptTokens) and authority.live == {stored.refresh_token.reveal()}


def _without_room(store: SharedStore) -> Callable[[], Any]:
    """The lock of a store that cannot save."""

    async def fail(credentials: Credentials) -> None:
        raise StoreUnavailable("no room")

    @asynccontextmanager
    async def locked() -> AsyncIterator[HeldStore]:
        async with MemoryStore.locked(store) as held:
            held.save = fail
            yield held

    return locked


async def test_a_wrapper_with_its_own_lock_is_not_bypassed() -> None:
    wrapper: Any = WrappedStore(SharedStore(TOKENS))  # type checkers do not see what `__getattr__` passes on
    authority = FakeAuthority(TOKENS)
    async with AuthEngine(wrapper, authority) as engine:
        await engine.authorization()
    assert (wrapper.locks, wrapper.inner.locks) == (1, 0)
