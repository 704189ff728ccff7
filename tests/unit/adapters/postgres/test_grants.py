"""What a role needs: an engine works with these rights, and each missing one is told with what to do."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from support.database_brokers import machine, sign_in
from support.postgres import PostgresServer, run_statement

from authstate import AuthEngine, EncryptionKeys, PostgresDatabase, StoreUnavailable, migrate_database
from authstate.adapters.broker.account_tokens import make_lease
from authstate.adapters.broker.oauth_errors import OAuthRefusal
from authstate.adapters.postgres.admin_database import AdminDatabase
from authstate.adapters.postgres.grants import RIGHTS, grant_access, grant_statements
from authstate.adapters.postgres.rotation import rotate_keys
from authstate.testing import FakeAuthority, make_tokens

ROLE = 'App "role"'
QUOTED = '"App ""role"""'


@pytest.fixture
async def role_url(database_url: str) -> AsyncIterator[str]:
    """The URL of a database, for a role without rights."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {QUOTED} LOGIN".encode())
    yield database_url.replace("user=postgres", f"user='{ROLE}'")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {QUOTED}".encode())
        connection.execute(f"DROP ROLE {QUOTED}".encode())


async def refresh(url: str, keys: EncryptionKeys) -> None:
    tokens = make_tokens(expires_in=-60.0)
    authority = FakeAuthority(tokens)
    async with PostgresDatabase(url, keys, connections=2) as database:
        async with database.store("alice").locked() as held:
            await held.save(tokens)
        async with AuthEngine(database.store("alice"), authority) as engine:
            await engine.authorization()
            await engine.log_out()
    assert authority.sent == [tokens.refresh_token.reveal()]


async def test_an_engine_works_with_these_rights(database_url: str, role_url: str, keys: EncryptionKeys) -> None:
    with pytest.raises(StoreUnavailable, match=r"grant it the rights that `authstate postgres init` prints"):
        await refresh(role_url, keys)
    await grant_access(database_url, ROLE)
    await grant_access(database_url, ROLE)
    await refresh(role_url, keys)


async def test_a_broker_works_with_these_rights(
    database_url: str, role_url: str, keys: EncryptionKeys, tmp_path: Path
) -> None:
    await grant_access(database_url, ROLE)
    authority = FakeAuthority()
    async with machine(role_url, keys, authority, tmp_path) as broker:
        await sign_in(broker.database, authority)
        leases = broker.broker.leases
        made = [await make_lease(broker.broker, "alice", 60.0) for _ in range(2)]
        await broker.ask(made[0].handle.secret)
        await leases.end(made[0].lease.id)
        run_statement(database_url, "UPDATE authstate.leases SET over_at = 'epoch', expires_at = 'epoch'")
        with pytest.raises(OAuthRefusal):
            await broker.ask(made[1].handle.secret)
        assert len(await leases.listed("alice")) == 2
        last = await make_lease(broker.broker, "alice", 60.0)  # removes those that have been over for long
        assert [lease.id for lease in await leases.listed("alice")] == [last.lease.id]
        assert len(await leases.end_all("alice")) == 1
    async with AdminDatabase(role_url, keys) as database:
        assert (await rotate_keys(database)).left == []


async def test_there_are_rights_for_every_table(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'authstate'").fetchall()
    assert {name for (name,) in tables} == set(RIGHTS)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM authstate.accounts",
        "TRUNCATE authstate.refresh_claims",
        "UPDATE authstate.encryption_keys SET checked = ''",
        "DELETE FROM authstate.encryption_keys",
        "INSERT INTO authstate.migrations VALUES (99, '')",
        "CREATE TABLE authstate.more ()",
        "DROP TABLE authstate.accounts",
    ],
)
async def test_the_role_may_do_nothing_else(database_url: str, role_url: str, statement: str) -> None:
    await grant_access(database_url, ROLE)
    with psycopg.connect(role_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


async def test_a_missing_role_and_missing_rights_are_told(database_url: str, role_url: str) -> None:
    with pytest.raises(StoreUnavailable, match="there is no role of that name: create it"):
        await grant_access(database_url, "nobody")
    for attempt in (grant_access(role_url, ROLE), migrate_database(role_url)):
        with pytest.raises(StoreUnavailable, match="name one in the URL that owns the database"):
            await attempt


async def test_a_database_without_tables_is_told(postgres_server: PostgresServer, keys: EncryptionKeys) -> None:
    async with PostgresDatabase(postgres_server.url(), keys, listens=False) as database:
        with pytest.raises(StoreUnavailable, match="its tables are missing: run `authstate postgres init`"):
            await database.store("alice").load()


def test_the_name_of_a_role_is_quoted() -> None:
    assert grant_statements('a"; DROP ROLE b; --')[0] == 'GRANT USAGE ON SCHEMA authstate TO "a""; DROP ROLE b; --"'
