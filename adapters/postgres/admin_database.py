"""The database of a command: one connection, no notifications, and time for statements that read every row."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from authstate.adapters.postgres.admin_connection import connect
from authstate.adapters.postgres.connections import Row
from authstate.adapters.postgres.database import PostgresDatabase
from authstate.adapters.postgres.keys import KeyProvider
from authstate.engine.model.errors import strip_tracebacks

if TYPE_CHECKING:
    import psycopg

_ANSWER_WITHIN: Final = 600.0  # seconds


class AdminDatabase(PostgresDatabase):
    """A `PostgresDatabase` for a command that runs once. A person waits for it, so it tells soon what is wrong.

    Args:
        url: see `PostgresDatabase`.
        keys: encrypt and decrypt what is stored. They are loaded at their first use.

    Raises DatabaseUrlInvalid.
    """

    _pauses: tuple[float, ...] = (0.0, 0.5)
    _answer_within = _ANSWER_WITHIN

    @strip_tracebacks  # the URL may hold a password
    def __init__(self, url: str, keys: KeyProvider) -> None:
        super().__init__(url, keys, connections=1, listens=False)
        self._url = url
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()

    async def _fetch_all_once(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        from psycopg.rows import dict_row

        async with self._turn, asyncio.timeout(self._answer_within):
            if self._connection is None or self._connection.closed:
                self._connection = await connect(self._url)
                await self._connection.set_autocommit(True)
            async with self._connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(statement.encode(), values)
                return list(await cursor.fetchall())

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        await super().aclose()
