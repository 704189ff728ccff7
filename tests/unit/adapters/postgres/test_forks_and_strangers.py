"""What else may happen to a store: a fork of its process, a cancellation as its database is closed, other roles."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from support.postgres import PostgresServer

from authstate import ApiKey, EncryptionKeys, PostgresDatabase
from authstate.adapters.postgres import statements
from authstate.adapters.postgres.connections import Row

KEY = ApiKey.parse("sk-forks-0123456789")
_FORKS = """
import asyncio, os, sys
from authstate import EncryptionKeys, PostgresDatabase, PostgresStore, StoreBusy
database = PostgresDatabase(sys.argv[1], EncryptionKeys({"a": bytes(32)}), listens=False)
store = PostgresStore(database, "alice", lock_timeout=0.0)

async def hold(answer, wait):
    async with database:
        try:
            async with store.locked():
                os.write(answer, b"h")
                await asyncio.to_thread(os.read, wait, 1)
        except StoreBusy as busy:
            print(busy, flush=True)
            os.write(answer, b"b")

answers, answer = os.pipe()
wait, go_on = os.pipe()
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        os.close(go_on)
        asyncio.run(hold(answer, wait))
        os._exit(0)
    children.append(child)
os.close(answer)
print(sorted(os.read(answers, 1) for _ in children), *children)
os.close(go_on)
for child in children:
    os.waitpid(child, 0)
"""
_STRANGE = (
    ("||", "text", "bigint", "text"),
    ("-", "float8", "integer", "float8"),
    ("-", "float8", "numeric", "float8"),
    (">", "float8", "integer", "boolean"),
    (">", "float8", "numeric", "boolean"),
)
"""Operators that pg_catalog lacks, so one of exactly these types is preferred: the name, left, right, result."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_two_forks_of_a_process_do_not_hold_a_row_at_once(postgres_server: PostgresServer) -> None:
    url = asyncio.run(postgres_server.new_database())
    command = [sys.executable, "-c", _FORKS, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    message, answers = done.stdout.splitlines()
    assert answers.startswith("[b'b', b'h'] ")
    assert any(f"is in use by process {child} on " in message for child in answers.split()[2:])


class PausingDatabase(PostgresDatabase):
    """Its first TAKE is done, and its answer comes when a test says so."""

    def __init__(self, url: str, keys: EncryptionKeys) -> None:
        super().__init__(url, keys, connections=2, listens=False)
        self.is_taken, self.may_answer = asyncio.Event(), asyncio.Event()

    async def fetch(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        row = await super().fetch(statement, values)
        if statement == statements.TAKE:
            self.is_taken.set()
            await self.may_answer.wait()
        return row


async def test_closing_waits_until_an_unwanted_row_is_free(database_url: str, keys: EncryptionKeys) -> None:
    database = PausingDatabase(database_url, keys)
    taking = asyncio.ensure_future(database.store("alice").locked().__aenter__())
    await database.is_taken.wait()
    taking.cancel()
    await asyncio.wait((taking,))
    asyncio.get_running_loop().call_soon(database.may_answer.set)
    await database.aclose()
    assert database._pool is None
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT held_until FROM authstate.accounts").fetchall() == [(None,)]


class SlowlyReleasing(PostgresDatabase):
    """Releases a row only when a test says so."""

    def __init__(self, url: str, keys: EncryptionKeys) -> None:
        super().__init__(url, keys, connections=2, listens=False)
        self.is_releasing, self.may_release = asyncio.Event(), asyncio.Event()

    async def _fetch_once(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        if statement == statements.RELEASE:
            self.is_releasing.set()
            await self.may_release.wait()
        return await super()._fetch_once(statement, values)


@pytest.mark.parametrize("is_inside", [True, False], ids=["inside", "while it is released"])
async def test_a_row_that_is_released_after_the_end_opens_no_connection(
    is_inside: bool, database_url: str, keys: EncryptionKeys
) -> None:
    database = SlowlyReleasing(database_url, keys)
    store = database.store("alice")
    holding = store.locked()
    await holding.__aenter__()
    if is_inside:
        await database.aclose()
    releasing = asyncio.ensure_future(holding.__aexit__(None, None, None))
    await database.is_releasing.wait()
    if not is_inside:
        await database.aclose()
    database.may_release.set()
    await releasing
    assert database._pool is None
    async with database, store.locked():  # it is used again, and the same store may take the row at once
        pass
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT held_until FROM authstate.accounts").fetchall() == [(None,)]


async def test_no_statement_runs_an_operator_of_a_stranger(database_url: str, keys: EncryptionKeys) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for number, (name, left, right, result) in enumerate(_STRANGE):
            function = f"public.strange_{number}"
            body = "BEGIN RAISE EXCEPTION 'strange'; END"
            connection.execute(
                f"CREATE FUNCTION {function}({left}, {right}) RETURNS {result} LANGUAGE plpgsql AS '{body}'".replace(
                    "'strange'", "''strange''"
                ).encode()
            )
            connection.execute(
                f"CREATE OPERATOR public.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {function})".encode()
            )
    async with PostgresDatabase(database_url, keys, connections=1, listens=False) as database:
        async with database.store("alice").locked() as held:
            await held.save(KEY)
        for since in (0.0, 1_800_000_000.0):
            assert await database._recent(since)
