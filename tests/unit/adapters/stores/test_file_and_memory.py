"""What `AuthJsonStore` and `MemoryStore` have in common: one writer at a time, and what was saved is loaded."""

import asyncio
from pathlib import Path

import pytest

from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import StoreBusy
from authstate.engine.ports import CredentialStore
from authstate.testing import MemoryStore, make_external_tokens, make_tokens

KEY = ApiKey.parse("sk-canary-key")


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CredentialStore:
    return AuthJsonStore(tmp_path / "home") if request.param == "file" else MemoryStore()


async def test_a_store_gives_back_what_it_was_given(store: CredentialStore) -> None:
    mine = make_tokens(now=1_800_000_000.25)
    assert await store.load() is None
    async with store.locked() as held:
        assert await held.load() is None
        await held.prepare()
        await held.save(mine)
        assert await held.load() == mine
        await held.save(KEY)
    assert await store.load() == KEY
    async with store.locked() as held:
        await held.delete()
        await held.delete()
    assert await store.load() is None


async def test_external_tokens_are_refused(store: CredentialStore) -> None:
    with pytest.raises(TypeError, match="never stored"):
        async with store.locked() as held:
            await held.save(make_external_tokens())
    assert await store.load() is None


async def test_one_holder_at_a_time(store: CredentialStore) -> None:
    inside = most = 0

    async def hold() -> None:
        nonlocal inside, most
        async with store.locked():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(hold() for _ in range(10)))
    assert most == 1


async def test_a_waiter_that_is_cancelled_leaves_no_lock(store: CredentialStore) -> None:
    async with store.locked():
        waiter = asyncio.ensure_future(store.locked().__aenter__())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    async with store.locked():
        pass


async def test_an_error_inside_frees_the_lock(store: CredentialStore) -> None:
    with pytest.raises(RuntimeError):
        async with store.locked() as held:
            await held.prepare()
            raise RuntimeError
    async with store.locked():
        pass


async def test_memory_counts_and_gives_up_in_time() -> None:
    store = MemoryStore(KEY, lock_timeout=0)
    await store.load()
    async with store.locked() as held:
        await held.save(KEY)
        await held.delete()
        with pytest.raises(StoreBusy):
            await store.locked().__aenter__()
    assert (store.loads, store.saves, store.deletes) == (1, 1, 1)
