"""Why a pool gets no connection. By itself, psycopg tells only its log, and whoever waits hears nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakSet

from authstate.adapters.postgres import faults

if TYPE_CHECKING:
    import psycopg

_TELL_WITHIN: Final = 2.0  # seconds: another attempt to connect, which may succeed, waits for it


async def reason_of(error: Exception, conninfo: str, within: float | None = None) -> Exception:
    """Return why a connection failed. libpq says the same of a standby and of a primary that a setting makes read-only:
    the server is asked which one it is.

    Args:
        error: what libpq raised.
        conninfo: what it connected with.
        within: the most seconds to ask for; by default as long as a connection may take.
    """
    import psycopg

    if faults.SESSION_IS_READ_ONLY not in str(error):
        return error
    try:
        async with (
            asyncio.timeout(within),
            await psycopg.AsyncConnection.connect(
                conninfo, autocommit=True, target_session_attrs="primary"
            ) as connection,
        ):
            cursor = await connection.execute("SHOW default_transaction_read_only")
            is_set = await cursor.fetchone() == ("on",)
    except (psycopg.Error, OSError):
        return error
    return (
        psycopg.OperationalError(f"{faults.SESSION_IS_READ_ONLY}: {faults.READ_ONLY_BY_SETTING}") if is_set else error
    )


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
        self.last: Exception | None = None
        """Why the last attempt failed. None if it did not."""
        self._waits: set[asyncio.Timeout] = set()
        self._made: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()

    def connection_class(self) -> "type[psycopg.AsyncConnection[Any]]":
        """Return the class of the connections of a pool, whose attempts are noted."""
        import psycopg

        failures = self

        class NotedConnection(psycopg.AsyncConnection[Any]):
            @classmethod
            async def connect(cls, conninfo: str = "", **options: Any) -> Self:
                try:
                    connection = await super().connect(conninfo, **options)
                except (psycopg.Error, OSError) as error:
                    failures._note((await reason_of(error, conninfo, within=_TELL_WITHIN)).with_traceback(None))
                    raise
                failures.last = None
                failures._made.add(connection)
                return connection

        return NotedConnection

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """Wait for a connection within this block, and hear why there is none.

        The wait ends early if there is no connection at all, and an attempt fails for a reason that stays until a
        person does something.

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
            if self.last is None:
                raise
            raise NotConnected(self.last) from None
        finally:
            self._waits.discard(wait)

    def _note(self, error: Exception) -> None:
        self.last = error
        has_others = any(not connection.closed for connection in self._made)
        if faults.needs_repair(error) and not has_others:
            now = asyncio.get_running_loop().time()
            for wait in self._waits:
                wait.reschedule(now)
            self._waits.clear()
