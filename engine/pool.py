"""A pool of engines."""

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import msgspec

from authstate.engine.engine import AuthEngine

K = TypeVar("K", bound=Hashable)


class PoolMetrics(msgspec.Struct, frozen=True):
    """What a pool does now, and what it did since its start. All are numbers of accounts, engines or events."""

    open: int
    """Engines that are open."""
    in_use: int
    """Accounts that have at least one user, users that wait for the engine included."""
    opening: int
    """Engines that are being opened."""
    closing: int
    """Engines that are being closed."""
    refreshing: int
    """Engines with a refresh under way."""
    paced: int
    """Background refreshes that wait for their turn."""
    opened: int
    """Engines that were opened since the start."""
    open_failures: int
    """Engines that could not be opened since the start."""
    evicted: int
    """Engines that the pool closed since the start, because they were idle."""
    refreshed: int
    """How often an engine got new tokens since the start: from the issuer, from another process or from a parent."""
    refresh_failures: int
    """How often a refresh failed since the start."""


class EnginePool(Generic[K]):
    """An engine for each account."""

    def __init__(self, open_engine: Callable[[K], AuthEngine]) -> None:
        self._open_engine = open_engine
        self._engines: dict[K, AuthEngine] = {}

    @asynccontextmanager
    async def engine(self, account: K) -> AsyncIterator[AuthEngine]:
        """Lend an engine."""
        if account not in self._engines:
            self._engines[account] = self._open_engine(account)
            await self._engines[account].start()
        yield self._engines[account]

    def metrics(self) -> PoolMetrics:
        """Return its numbers."""
        return PoolMetrics(len(self._engines), *[0] * 10)

    async def close(self, grace: float = 30.0) -> None:
        """Close all engines."""
        for engine in self._engines.values():
            await engine.close(grace)
