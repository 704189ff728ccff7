"""What other processes changed: heard from the database, or asked for, for all rows together.

Notifications make waiting short, and nothing depends on them. Whoever waits for a row also asks by itself. One query
finds the logins that were changed. It runs once a second while no notification can be heard, and otherwise every 30
seconds: a process that ended may not have told what it changed. While the database does not answer, nothing is known
to have changed; what was, is found afterwards.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.events import Subscriptions

if TYPE_CHECKING:
    import psycopg

_LOGIN: Final = "authstate_login"
_FREE: Final = "authstate_free"
_CANCEL_AGAIN: Final = 0.1  # seconds
_LEASE: Final = "authstate_lease"
_EVERY: Final = 1.0  # seconds
_LOOK_AGAIN: Final = 30.0  # seconds, while notifications are heard
_VERSION: Final = re.compile(r"[0-9]{1,19}")

Recent = Callable[[float], Awaitable[Sequence[Mapping[str, Any]]]]
"""Returns account and version of what was changed since a time of the database, and `now` there; at least `now`."""


class Watched:
    """A row that somebody in this process looks at."""

    def __init__(self) -> None:
        self.changes: int = 0
        """How many changes of its login are known."""
        self.version: int = 0
        """The version of the login that this process read or heard of last."""
        self._own: int | None = None
        self._news = asyncio.Event()

    def tell(self) -> None:
        """Wake everybody who waits: the row is free, or its login was changed."""
        self._news.set()
        self._news = asyncio.Event()

    def read(self, row: Mapping[str, Any] | None) -> None:
        """Note what was read or written here: it is no news for this process."""
        if row is not None:
            self.version = max(self.version, row["version"])

    @contextmanager
    def writing(self, version: int) -> Iterator[None]:
        """Expect the notification of a write of this process, which makes this version. It may precede the answer."""
        self._own = version
        try:
            yield
        finally:
            self._own = None

    def changed(self, version: int) -> None:
        """Note that the login has this version now."""
        if version not in (self.version, self._own):
            self.version = version
            self.changes += 1
        self.tell()

    def next_news(self) -> asyncio.Event:
        """Return what is set at the next notification from now on."""
        return self._news


class Changes:
    """Follows the changes of a database, in a task of its own.

    Args:
        conninfo: where to listen. None: there are no notifications, and the database is asked.
        recent: asks for what was changed. Raises StoreUnavailable.
        behind_poolers: whether to listen also if a pooler, such as pgbouncer, is between this process and the server.
            In transaction mode, what is meant for this process would go to others.
    """

    def __init__(self, conninfo: str | None, recent: Recent, *, behind_poolers: bool = True) -> None:
        self._conninfo = conninfo
        self._behind_poolers = behind_poolers
        self._recent = recent
        self._task: asyncio.Task[None] | None = None
        self._since = 0.0
        """The time of the database at the last look. 0 before the first one."""
        self.is_listening: bool = False
        """Whether notifications are heard now."""
        self._watched: WeakValueDictionary[str, Watched] = WeakValueDictionary()
        self.ended_leases: Subscriptions[str] = Subscriptions()
        """The ids of leases that any process has ended."""

    def watched(self, account: str) -> Watched:
        """Return what is known of a row. Keep it: nothing is noted of rows that nobody has."""
        found = self._watched.get(account)
        return found if found is not None else self._watched.setdefault(account, Watched())

    def revision(self, watched: Watched) -> object:
        """Return a value that changes once a change of the login is known. None before the first look."""
        return watched.changes if self._since else None

    def start(self) -> None:
        """Begin to follow, in a task of this event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow())

    async def aclose(self) -> None:
        """Stop following.

        It cancels until the task has ended: before Python 3.12, `asyncio.wait_for` loses a cancellation that comes as
        its wait ends, and psycopg's pool waits with it.
        """
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=_CANCEL_AGAIN)

    async def _follow(self) -> None:
        """Listen. Where that is not possible now, ask once a second. Ends when it is cancelled."""
        import psycopg

        while True:
            if self._conninfo is not None:
                with suppress(psycopg.Error, OSError, StoreUnavailable):
                    await self._listen(self._conninfo)
                self.is_listening = False
            with suppress(StoreUnavailable):
                await self._look()
            await asyncio.sleep(_EVERY)

    async def _listen(self, conninfo: str) -> None:
        """Listen until the connection is lost."""
        import psycopg

        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            if not self._behind_poolers and await _is_pooled(connection):
                self._conninfo = None
                return
            for channel in (_LOGIN, _FREE, _LEASE):
                await connection.execute(f"LISTEN {channel}".encode())
            await self._look()  # what was changed before
            self.is_listening = True
            while True:
                async for heard in connection.notifies(timeout=_LOOK_AGAIN):
                    self._hear(heard.channel, heard.payload)
                await self._look()  # what nobody told

    def _hear(self, channel: str, payload: str) -> None:
        """Note a notification. Every role of the database may send one, so what has another form counts for nothing."""
        if channel == _LEASE:
            self.ended_leases.emit(payload)
            return
        account, _, version = payload.partition(" ")
        if channel == _FREE:
            self._tell(account, None)
        elif _VERSION.fullmatch(version):
            self._tell(account, int(version))

    async def _look(self) -> None:
        """Find what was changed since the last look."""
        for row in await self._recent(self._since):
            self._since = row["now"]
            if row["account"] is not None:
                self._tell(row["account"], row["version"])

    def _tell(self, account: str, version: int | None) -> None:
        watched = self._watched.get(account)
        if watched is None:
            return
        if version is None:
            watched.tell()
        else:
            watched.changed(version)


async def _is_pooled(connection: "psycopg.AsyncConnection[Any]") -> bool:
    """Whether a pooler answers instead of a server. It tells a client a process number that it has made up."""
    cursor = await connection.execute("SELECT pg_backend_pid()")
    (backend,) = await cursor.fetchone() or (None,)
    return bool(backend != connection.info.backend_pid)
