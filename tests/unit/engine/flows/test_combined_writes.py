"""A wrapper around a store takes part in every write of a refresh, also if the store inside combines them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from authstate import AuthEngine, AuthJsonStore, Credentials, RefreshClaim
from authstate.testing import FakeAuthority


class WrappedHeld:
    """Notes what is written, and passes on the rest."""

    def __init__(self, held: Any, written: list[str]) -> None:
        self._held = held
        self._written = written

    async def save(self, credentials: Credentials) -> None:
        self._written.append("tokens")
        await self._held.save(credentials)

    async def record(self, claim: RefreshClaim) -> None:
        self._written.append(claim.state)
        await self._held.record(claim)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._held, name)


class WrappedStore:
    """A store whose held object is wrapped."""

    def __init__(self, store: AuthJsonStore) -> None:
        self._store = store
        self.written: list[str] = []

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[Any]:
        async with self._store.locked() as held:
            yield WrappedHeld(held, self.written)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_a_wrapper_that_passes_on_what_it_lacks_is_not_bypassed(tmp_path: Path) -> None:
    """Python 3.11 finds the combined methods of the store inside."""
    store: Any = WrappedStore(AuthJsonStore(tmp_path))
    authority = FakeAuthority()
    async with store.locked() as held:
        await held.save(authority.issue())
    async with AuthEngine(store, authority) as engine:
        store.written.clear()
        await engine.refresh()
    assert store.written == ["claimed", "tokens", "spent"]
