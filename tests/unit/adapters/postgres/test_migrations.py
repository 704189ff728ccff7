"""Many machines start at once: one makes the tables, and all of them find these."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from support.postgres import PostgresServer, run_statement

from authstate import StoreUnavailable, migrate_database
from authstate.adapters.postgres.migrate import _CREATED
from authstate.adapters.postgres.schema import LOCK, MIGRATIONS, VERSION, Migration

_PROCESSES = 10
_RUN = """
import sys
from authstate.adapters.cli.main import main
print("ready", flush=True)
sys.stdin.readline()
sys.exit(main(["postgres", "migrate"]))
"""


def test_ten_processes_that_migrate_at_once_end_well(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrated_by_many")
    url = postgres_server.url("migrated_by_many")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _RUN],
            env={**os.environ, "AUTHSTATE_DATABASE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(_PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * _PROCESSES, outputs
    for out, err in outputs:
        assert f"has tables of version {VERSION}." in out and err == ""
    for migration in MIGRATIONS:
        assert sum(f"Applied migration {migration.version}:" in out for out, _ in outputs) == 1
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT version FROM authstate.migrations ORDER BY version").fetchall()
    assert found == [(migration.version,) for migration in MIGRATIONS]


async def test_a_later_migration_follows_and_a_failed_one_changes_nothing(database_url: str) -> None:
    later = Migration(VERSION + 1, "one more table", ("CREATE TABLE authstate.more ()",))
    failing = Migration(VERSION + 2, "fails", ("CREATE TABLE authstate.even_more ()", "SELECT 1 / 0"))
    assert await migrate_database(database_url, (*MIGRATIONS, later)) == [later]
    with pytest.raises(StoreUnavailable, match="SQLSTATE 22012"):
        await migrate_database(database_url, (*MIGRATIONS, later, failing))
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("SELECT to_regclass('authstate.more'), to_regclass('authstate.even_more')")
        assert tables.fetchone() == ("authstate.more", None)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_that_cannot_store_every_text_is_refused(
    postgres_server: PostgresServer, encoding: str
) -> None:
    name = f"encoded_in_{encoding.lower()}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    with pytest.raises(StoreUnavailable, match=f"has the encoding {encoding}: use one with ENCODING 'UTF8'"):
        await migrate_database(postgres_server.url(name))
    assert postgres_server.execute("SELECT to_regnamespace('authstate')", database=name) == [(None,)]


async def test_a_migration_sees_what_another_one_did_while_it_waited(postgres_server: PostgresServer) -> None:
    """Also where the database says that a transaction sees only what was there when it began."""
    name = "migrated_serializable"
    postgres_server.execute(f"CREATE DATABASE {name}")
    postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    url = postgres_server.url(name)
    waiting = """
        SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
        WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()
    """
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        second = asyncio.create_task(migrate_database(url))
        async with asyncio.timeout(60):
            while postgres_server.execute(waiting, database=name) == [(0,)]:  # noqa: ASYNC110 - a lock sets no event
                await asyncio.sleep(0.01)
        for statement in (*_CREATED, *(text for migration in MIGRATIONS for text in migration.statements)):
            other.execute(statement.encode())
        for migration in MIGRATIONS:
            other.execute("INSERT INTO authstate.migrations VALUES (%s, %s)", (migration.version, migration.title))
    assert await second == []


@pytest.fixture
def roles(postgres_server: PostgresServer) -> Iterator[str]:
    """A database whose schema `authstate` was made by `stranger`, a member of `team`. Yields its name."""
    name = "migrated_by_strangers"
    for role in ("stranger", "team", "member", "owner"):
        postgres_server.execute(f"CREATE ROLE {name}_{role} LOGIN")
    postgres_server.execute(f"CREATE DATABASE {name} OWNER {name}_owner")
    for role in ("stranger", "team", "member"):
        postgres_server.execute(f"GRANT CREATE ON DATABASE {name} TO {name}_{role}")
    postgres_server.execute(f"GRANT {name}_team TO {name}_member")
    yield name
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    for role in ("stranger", "team", "member", "owner"):
        postgres_server.execute(f"DROP ROLE {name}_{role}")


@pytest.mark.parametrize(
    ("made_by", "migrated_by", "is_refused"),
    [
        ("stranger", "postgres", True),
        ("stranger", "owner", True),
        ("stranger", "member", True),
        ("stranger", "stranger", False),
        ("team", "member", False),
        ("owner", "postgres", False),
    ],
)
async def test_a_schema_of_a_stranger_is_refused(
    postgres_server: PostgresServer, roles: str, made_by: str, migrated_by: str, is_refused: bool
) -> None:
    maker = f"{roles}_{made_by}"
    run_statement(postgres_server.url(roles, maker), "CREATE SCHEMA authstate")
    user = migrated_by if migrated_by == "postgres" else f"{roles}_{migrated_by}"
    if not is_refused:
        assert await migrate_database(postgres_server.url(roles, user)) == list(MIGRATIONS)
        return
    with pytest.raises(StoreUnavailable, match=f"belongs to the role {maker}, which is not yours: .* DROP SCHEMA"):
        await migrate_database(postgres_server.url(roles, user))
    found = postgres_server.execute("SELECT count(*) FROM pg_class WHERE relname = 'migrations'", database=roles)
    assert found == [(0,)]
