"""A store may finish a write before it lets a cancellation through. A sign-in or sign-out then tells its caller."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.states import AuthState
from authstate.engine.ports import HeldStore
from authstate.testing import FakeAuthority, MemoryStore


class UninterruptedStore(MemoryStore):
    """A store whose last write is cancelled while it runs. It leaves the cancellation to the caller's next await."""

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        async with super().locked() as held:
            yield _Uninterrupted(held)


class _Uninterrupted:
    def __init__(self, held: HeldStore) -> None:
        self.load, self.prepare, self.record = held.load, held.prepare, held.record
        self._held = held

    async def save(self, credentials: Any) -> None:
        await self._held.save(credentials)
        _cancel_this_task()

    async def delete(self) -> None:
        await self._held.delete()
        _cancel_this_task()


def _cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize(
    ("stored", "act", "state"),
    [
        (None, lambda engine: engine.use_api_key("sk-1"), AuthState.API_KEY),
        (ApiKey.parse("sk-1"), lambda engine: engine.log_out(), AuthState.LOGGED_OUT),
    ],
    ids=["sign in", "sign out"],
)
async def test_the_caller_is_cancelled_and_the_change_is_made(
    stored: ApiKey | None, act: Callable[[AuthEngine], Awaitable[object]], state: AuthState
) -> None:
    store = UninterruptedStore(stored)
    async with AuthEngine(store, FakeAuthority()) as engine:

        async def call() -> None:
            await act(engine)
            raise AssertionError("the cancellation was left for what comes after the call")

        [outcome] = await asyncio.gather(asyncio.create_task(call()), return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError)
        assert engine.session.state is state
        assert (store.credentials is None) is (state is AuthState.LOGGED_OUT)
