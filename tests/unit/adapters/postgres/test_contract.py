"""The contract that every store keeps, for PostgreSQL."""

from collections.abc import Callable

import pytest

from authstate.adapters.postgres.database import PostgresDatabase
from authstate.adapters.postgres.keys import EncryptionKeys
from authstate.adapters.postgres.store import PostgresStore
from authstate.engine.ports import CredentialStore
from authstate.testing import StoreContract


class TestPostgresStore(StoreContract):
    """Each store has a database of its own, as another machine would."""

    @pytest.fixture
    def authstate_open_store(self, database_url: str, keys: EncryptionKeys) -> Callable[..., CredentialStore]:
        self._opened: list[PostgresDatabase] = []

        def open_store(lock_timeout: float = 30.0) -> CredentialStore:
            database = PostgresDatabase(database_url, keys, connections=2)
            self._opened.append(database)
            return PostgresStore(database, "alice", lock_timeout=lock_timeout)

        return open_store

    async def close_stores(self) -> None:
        for database in self._opened:
            await database.aclose()
