"""Tells other processes that logins were changed, behind the change itself.

PostgreSQL commits one transaction with a notification at a time, in the whole server. One that waits for the disk would
let all others wait, so a notification has a transaction of its own, which does not. If it is lost, because this process
ends or the database is away, others find the change when they look for what was changed: see changes.py.
"""

from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, Protocol

from authstate.adapters.postgres import statements
from authstate.engine.model.errors import StoreUnavailable


class RunsInBackground(Protocol):
    """Runs statements, and work that nobody waits for: see `PostgresConnections`."""

    async def fetch(self, statement: str, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Run one statement."""
        ...

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something to its end."""
        ...


class ChangeNotices:
    """Sends the notifications of one process. One statement at a time is under way, with all that there is to tell.

    Args:
        database: where to.
    """

    def __init__(self, database: RunsInBackground) -> None:
        self._database = database
        self._versions: dict[str, int] = {}  # by account
        self._is_sending = False

    def send(self, account: str, version: int) -> None:
        """Tell that the login of an account has this version. It happens in the background, and raises nothing."""
        self._versions[account] = version
        if not self._is_sending:
            self._is_sending = True
            self._database.finish(self._send())

    async def _send(self) -> None:
        try:
            while self._versions:
                versions, self._versions = self._versions, {}
                values = {"accounts": list(versions), "versions": list(versions.values())}
                with suppress(StoreUnavailable):
                    await self._database.fetch(statements.TELL, values)
        finally:
            self._is_sending = False
