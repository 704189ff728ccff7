"""A pool of engines."""

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from authstate.engine.engine import AuthEngine

K = TypeVar("K", bound=Hashable)


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

    async def close(self, grace: float = 30.0) -> None:
        """Close all engines."""
        for engine in self._engines.values():
            await engine.close(grace)
