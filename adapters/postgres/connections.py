"""The connections of one process to a database that keeps logins, with its keys and its notifications."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from authstate.adapters.postgres import faults, statements
from authstate.adapters.postgres.change_notices import ChangeNotices
from authstate.adapters.postgres.changes import Changes
from authstate.adapters.postgres.connect_failures import ConnectFailures, NotConnected
from authstate.adapters.postgres.connection_target import connection_string, describe
from authstate.adapters.postgres.keys import KeyProvider
from authstate.adapters.postgres.sealed_logins import SealedLogins
from authstate.engine.model.arguments import ensure_instance, ensure_methods
from authstate.engine.model.errors import StoreUnavailable, strip_tracebacks

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool
Row = Mapping[str, Any]
_GIVE_UP_CONNECTING: Final = 2.0  # seconds; then it begins again if anybody waits
_TIDYING: Final = frozenset({statements.RELEASE, statements.TELL})
"""What is done at the end of other work. It opens no connections that were closed before: nobody would close them."""
_SILENT: Final = logging.NullHandler()
T = TypeVar("T")


def boot_time() -> float:
    """Seconds from an arbitrary start, by a clock that never jumps, and goes on while the machine sleeps, if there is
    such a clock.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class PostgresConnections:
    """The connections of one event loop to a database. All stores of a process share one.

    It connects at its first use. Use it as an async context manager, or close it with `aclose`.

    Args:
        url: `postgresql://USER@HOST/DATABASE`, or what libpq takes; without a password, see `connection_string`.
        keys: encrypt and decrypt what is stored.
        connections: the most connections to have at once, besides the one that waits for notifications.
        listens: whether one more connection waits for notifications (LISTEN). If not, the database is asked once a
            second what other machines have changed. By default, it waits unless a pooler is found between this process
            and the server: pgbouncer in transaction mode loses notifications.
        listen_url: where that connection goes, if not to `url`: to the server itself, past a pooler.
        elapsed: seconds by a clock that never jumps. For the time that is left to send a token.

    Raises:
        DatabaseUrlInvalid: the URL has another form, or contains a password.
        TypeError: the URL is no text, or the keys are no `KeyProvider`.
    """

    _pauses: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0, 2.0)
    """Seconds before a statement is repeated, each on another connection: a server may be starting again, or a standby
    become the primary."""
    _answer_within: float = 10.0
    """Seconds until a statement that has no answer is given up, and its connection is closed."""
    _connect_within: float = 20.0
    """Seconds to wait for a connection: until another statement of this process has done with it, or a server is back.
    """

    @strip_tracebacks  # the URL may hold a password
    def __init__(
        self,
        url: str,
        keys: KeyProvider,
        *,
        connections: int = 4,
        listens: bool | None = None,
        listen_url: str | None = None,
        elapsed: Callable[[], float] = boot_time,
    ) -> None:
        ensure_instance(url, str, "url", "postgresql://USER@HOST/DATABASE, a str")
        ensure_methods(keys, ("load",), "keys", "a KeyFile, a KeyVariable or a KeyProvider of your own")
        self._conninfo = connection_string(url)
        self._connections = connections
        self._pool: AsyncConnectionPool[Any] | None = None
        self._opening = asyncio.Lock()
        self._failures = ConnectFailures()
        self._finishing: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.place: str = describe(url)
        """The name of the database, for a person."""
        self.elapsed = elapsed
        self.logins: SealedLogins = SealedLogins(self, keys)
        """Encrypts and decrypts logins."""
        listens_at = None if listens is False else connection_string(listen_url) if listen_url else self._conninfo
        behind_poolers = listens is True or listen_url is not None
        self.changes: Changes = Changes(listens_at, self._recent, behind_poolers=behind_poolers)
        """Tells when a row was changed or given free."""
        self.notices: ChangeNotices = ChangeNotices(self)
        """Tells others what this process changed."""

    @property
    def holder(self) -> str:
        """What others read of who changed something. A fork has another name."""
        return f"process {os.getpid()} on {socket.gethostname()}"

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something to its end, in the background. Closing the connections waits for it."""
        task = asyncio.ensure_future(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    @strip_tracebacks
    async def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        """Run one statement, which is a transaction of its own, and return its first row.

        It is repeated on another connection while that may help, for a few seconds. So it must have the same effect if
        it is run twice. Cancelling it ends the statement, or comes too late.

        Raises:
            StoreUnavailable: it was not possible. Whether it was done is not known.
        """
        return await self._repeated(lambda: self._fetch_once(statement, values))

    @strip_tracebacks
    async def fetch_all(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        """Run one statement as `fetch` does, and return all rows."""
        return await self._repeated(lambda: self._fetch_all_once(statement, values))

    async def _repeated(self, run: Callable[[], Awaitable[T]]) -> T:
        for pause in (*self._pauses, None):
            try:
                return await run()
            except _statement_faults() as error:
                if pause is None or not faults.is_repeatable(error):
                    raise self._unavailable(error) from None
            await asyncio.sleep(pause)
        raise AssertionError("the last pause is None")

    async def _recent(self, since: float) -> Sequence[Row]:
        """See `Recent`."""
        try:
            return await self._fetch_all_once(statements.RECENT, {"since": since})
        except _statement_faults() as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        if isinstance(error, NotConnected):
            return faults.not_connected(self.place, error.reason)
        return faults.unavailable(self.place, error)

    async def _fetch_once(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        if self._is_closed and statement in _TIDYING:
            raise StoreUnavailable(f"{self.place}: its connections were closed")
        self._is_closed = False
        return next(iter(await self._fetch_all_once(statement, values)), None)

    async def _fetch_all_once(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        from psycopg.rows import dict_row

        pool = await self._opened()
        async with AsyncExitStack() as stack:
            async with self._failures.told():
                connection = await stack.enter_async_context(pool.connection(timeout=self._connect_within))
            async with asyncio.timeout(self._answer_within), connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(statement.encode(), values)
                return list(await cursor.fetchall())

    async def _opened(self) -> "AsyncConnectionPool[Any]":
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await self._open()
        return self._pool

    async def _open(self) -> "AsyncConnectionPool[Any]":
        try:
            from psycopg_pool import AsyncConnectionPool
        except ImportError:
            raise StoreUnavailable("PostgreSQL needs more packages: pip install 'authstate[postgres]'") from None
        # Without a handler, Python prints each try to connect on standard error, in front of the message.
        logging.getLogger("psycopg.pool").addHandler(_SILENT)
        settings = {"autocommit": True, "prepare_threshold": None}
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            self._conninfo,
            connection_class=self._failures.connection_class(),
            kwargs=settings,
            min_size=1,
            max_size=self._connections,
            open=False,
            reconnect_timeout=_GIVE_UP_CONNECTING,
            reconnect_failed=_connect_again,
            name="authstate",
        )
        await pool.open()
        self.changes.start()
        return pool

    async def aclose(self) -> None:
        """Close all connections, after what is given free in the background. A later use opens new ones.

        A row that is held then is not given free afterwards: its hold ends by itself.
        """
        while self._finishing:
            await asyncio.wait(self._finishing)
        self._is_closed = True
        await self.changes.aclose()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _connect_again(pool: "AsyncConnectionPool[Any]") -> None:
    """Begin to connect from the start, if anybody waits. By itself, a pool waits longer after each failure, without a
    limit: a server that was away for minutes would not be noticed for as long again.
    """
    if pool.get_stats().get("requests_waiting"):
        await pool.check()


def _statement_faults() -> tuple[type[Exception], ...]:
    import psycopg
    from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

    return (psycopg.Error, PoolTimeout, PoolClosed, TooManyRequests, NotConnected, OSError)
