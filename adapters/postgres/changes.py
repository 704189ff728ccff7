"""Notifications of a database: which rows were changed or given free by any process.

They make waiting short, and nothing depends on them: whoever waits also asks the database from time to time.
"""

import asyncio
from contextlib import suppress
from typing import Final
from weakref import WeakValueDictionary

_LOGIN: Final = "authstate_login"
_FREE: Final = "authstate_free"
_FIRST_PAUSE: Final = 0.1  # seconds
_LONGEST_PAUSE: Final = 15.0  # seconds


class Watched:
    """A row that somebody in this process looks at."""

    def __init__(self) -> None:
        self.changes: int = 0
        """How many changes of its login were heard of."""
        self._news = asyncio.Event()

    def tell(self, *, is_login: bool) -> None:
        """Note a notification, and wake everybody who waits."""
        self.changes += is_login
        self._news.set()
        self._news = asyncio.Event()

    def next_news(self) -> asyncio.Event:
        """Return what is set at the next notification from now on."""
        return self._news


class Changes:
    """Waits for notifications on a connection of its own.

    Args:
        conninfo: where to connect to. None: there are no notifications.
    """

    def __init__(self, conninfo: str | None) -> None:
        self._conninfo = conninfo
        self._task: asyncio.Task[None] | None = None
        self._is_listening = False
        self._connections = 0
        self._watched: WeakValueDictionary[str, Watched] = WeakValueDictionary()

    def watched(self, account: str) -> Watched:
        """Return what is known of a row. Keep it: nothing is noted of rows that nobody has."""
        found = self._watched.get(account)
        return found if found is not None else self._watched.setdefault(account, Watched())

    def revision(self, watched: Watched) -> object:
        """Return a value that changes when a login may have changed. None while nothing is heard."""
        return (self._connections, watched.changes) if self._is_listening else None

    def start(self) -> None:
        """Begin to listen, in a task of this event loop."""
        if self._conninfo is not None and self._task is None:
            self._task = asyncio.create_task(self._listen(self._conninfo))

    async def aclose(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _listen(self, conninfo: str) -> None:
        """Listen until it is cancelled. Connect again after a failure, later each time."""
        import psycopg

        pause = _FIRST_PAUSE
        while True:
            with suppress(psycopg.Error, OSError):
                async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                    await connection.execute(f"LISTEN {_LOGIN}")
                    await connection.execute(f"LISTEN {_FREE}")
                    self._connections += 1
                    self._is_listening = True
                    pause = _FIRST_PAUSE
                    async for heard in connection.notifies():
                        self._tell(heard.payload, is_login=heard.channel == _LOGIN)
            self._is_listening = False
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _tell(self, account: str, *, is_login: bool) -> None:
        watched = self._watched.get(account)
        if watched is not None:
            watched.tell(is_login=is_login)
