"""Many machines start at once: one makes the tables, and all of them find these."""

import os
import subprocess
import sys

import psycopg
import pytest
from support.postgres import PostgresServer

from authstate import StoreUnavailable, migrate_database
from authstate.adapters.postgres.schema import MIGRATIONS, VERSION, Migration

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
