"""Why a pool gets no connection. By itself, psycopg tells only its log, and whoever waits hears nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from authstate.adapters.postgres import faults

if TYPE_CHECKING:
    import psycopg


class NotConnected(Exception):
    """There is no connection, and this is why.

    Args:
        reason: what libpq said at the last attempt.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(type(reason).__name__)
        self.reason = reason


class ConnectFailures:
    """Notes why attempts to connect fail. An attempt that succeeds ends the note."""

    def __init__(self) -> None:
        self._last: Exception | None = None
        self._waits: set[asyncio.Timeout] = set()

    def connection_class(self) -> "type[psycopg.AsyncConnection[Any]]":
        """Return the class of the connections of a pool, whose attempts are noted."""
        import psycopg

        failures = self

        class NotedConnection(psycopg.AsyncConnection[Any]):
            @classmethod
            async def connect(cls, *arguments: Any, **options: Any) -> Self:
                try:
                    connection = await super().connect(*arguments, **options)
                except (psycopg.Error, OSError) as error:
                    failures._note(error.with_traceback(None))
                    raise
                failures._last = None
                return connection

        return NotedConnection

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """Wait for a connection within this block, and hear why there is none.

        The wait ends early if an attempt fails for a reason that stays until a person does something.

        Raises:
            NotConnected: there is no connection.
        """
        from psycopg_pool import PoolTimeout

        wait = asyncio.timeout(None)
        try:
            async with wait:
                self._waits.add(wait)
                yield
        except (TimeoutError, PoolTimeout):
            if self._last is None:
                raise
            raise NotConnected(self._last) from None
        finally:
            self._waits.discard(wait)

    def _note(self, error: Exception) -> None:
        self._last = error
        if faults.needs_repair(error):
            now = asyncio.get_running_loop().time()
            for wait in self._waits:
                wait.reschedule(now)
            self._waits.clear()
