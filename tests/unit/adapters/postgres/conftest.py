"""One PostgreSQL server for the tests of this folder, with an empty database for each test."""

import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from support.postgres import PostgresServer
from support.real_parts import RealParts

from authstate.adapters.postgres.keys import EncryptionKeys
from authstate.adapters.postgres.migrate import migrate_database

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running server. Its folder is short, because the path of a socket has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="authstate-pg"))
    folder.chmod(0o755)
    server = PostgresServer(folder / "s", RealParts().postgres())
    server.create()
    server.start()
    yield server
    server.stop("immediate")
    shutil.rmtree(folder)


@pytest.fixture
async def database_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty database with all tables."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    await migrate_database(postgres_server.url(name))
    return postgres_server.url(name)


@pytest.fixture
def keys() -> EncryptionKeys:
    return EncryptionKeys({"first": bytes(range(32))})
