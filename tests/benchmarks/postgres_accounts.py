"""A server with many accounts, for postgres_load.py. Logins are as long as OpenAI's: JWTs of 2,000 characters."""

import asyncio
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from support.postgres import PostgresServer, programs

from authstate import ChatgptTokens, EncryptionKeys, migrate_database
from authstate.adapters.postgres.sealing import seal
from authstate.adapters.stores.auth_json_format import encode
from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.testing import FakeAuthority, make_tokens

KEY_ID, KEY = "bench", bytes(range(32))
KEYS = EncryptionKeys({KEY_ID: KEY})
_LONG_EMAIL = f"{'x' * 600}@example.com"
_ROW = """
    COPY authstate.accounts (account, generation, writer, holder, version, key_id, login, fingerprint, changed_at)
    FROM STDIN
"""
_NOBODY = "00000000-0000-0000-0000-000000000000"
_CLAIMS = """
    INSERT INTO authstate.refresh_claims
    SELECT 'account-' || n, encode(sha256((n || '-' || k)::bytea), 'hex'), k, 'spent', 0, 'process 1 on host', 1,
        NULL, '', '', encode(sha256((n || '-' || k + 1)::bytea), 'hex')
    FROM generate_series(1, {claims}) AS k, generate_series(0, {accounts} - 1) AS n
"""


@contextmanager
def server() -> Iterator[PostgresServer]:
    """A server in a temporary folder, with its default settings for durability. No checkpoint begins by itself."""
    with tempfile.TemporaryDirectory(prefix="authstate-pg", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        running = PostgresServer(Path(folder) / "s", programs())
        running.create()
        running.configure("fsync = on", "full_page_writes = on")  # servers of tests have neither
        running.configure("max_wal_size = 4GB", "checkpoint_timeout = 1h", "shared_buffers = 256MB")
        running.start()
        try:
            yield running
        finally:
            running.stop("immediate")


def name_of(number: int) -> str:
    return f"account-{number}"


def long_tokens(*, expires_in: float = 3600.0) -> ChatgptTokens:
    return make_tokens(email=_LONG_EMAIL, expires_in=expires_in)


def new_database(server: PostgresServer, name: str, statements: Collection[str] = ()) -> str:
    """Make a database with the tables, and run more statements in it. Returns its URL."""
    server.execute(f"CREATE DATABASE {name}")
    asyncio.run(migrate_database(server.url(name)))
    for statement in statements:
        server.execute(statement, database=name)
    return server.url(name)


def fill(url: str, accounts: int, authority: FakeAuthority, refreshed: Collection[int], claims: int = 1) -> None:
    """Store a login in each of so many accounts.

    Args:
        url: of the database.
        accounts: how many.
        authority: knows the refresh tokens of `refreshed`.
        refreshed: the numbers of the accounts that will be refreshed. The others share one login.
        claims: how many claims of earlier refresh tokens each account has.
    """
    shared = long_tokens()
    chosen = set(refreshed)
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(_ROW) as copy:
            for number in range(accounts):
                tokens = authority.accept(long_tokens()) if number in chosen else shared
                account = name_of(number)
                login = seal(KEY, KEY_ID, account, "login", encode(tokens, None, indent=-1))
                fingerprint = fingerprint_of(tokens.refresh_token) if number in chosen else f"{number:064}"
                copy.write_row((account, 1, _NOBODY, "bench", 1, KEY_ID, login, fingerprint, "2026-01-01"))
        connection.execute(_CLAIMS.format(claims=claims, accounts=accounts).encode())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE authstate.accounts, authstate.refresh_claims")
