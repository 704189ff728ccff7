"""Connections that the server ends at each statement, and networks that lose one direction or delay an answer."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from faults.postgres_parts import Login, give_up_claims, opened, until_waiting
from support.cutting_proxy import CuttingProxy

from authstate import PostgresDatabase, StoreUnavailable

STATEMENTS = {"take": b"ON CONFLICT (account) DO UPDATE", "claim": b"), claim AS", "settle": b"a.version + 1"}
STEPS = [f"{when} {name}" for name in STATEMENTS for when in ("before", "after")]
END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresDatabase, "_pauses", (0.0, 0.0, 0.0))


@pytest.fixture
def server(database_url: str) -> "Iterator[psycopg.Connection[Any]]":
    """A connection of an administrator."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("step", STEPS)
async def test_a_connection_that_the_server_ends_between_two_statements(
    step: str, database_url: str, server: "psycopg.Connection[Any]"
) -> None:
    login = Login()
    ended: list[tuple[bool]] = []

    def reach(name: str) -> None:
        if name == step and not ended:
            ended.extend(server.execute(END_OTHERS).fetchall())

    async with opened(database_url) as database:
        await login.store_in(database)
        database.reach = reach
        await login.refresh(database)
        assert set(ended) == {(True,)}
        await login.assert_refreshed_once(database)


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_a_connection_that_the_server_ends_in_the_middle_of_a_statement(
    statement: str, database_url: str, server: "psycopg.Connection[Any]"
) -> None:
    login = Login()
    async with opened(database_url) as database:
        await login.store_in(database)
        with psycopg.connect(database_url) as blocker:
            database.reach = lambda name: lock_row(blocker) if name == f"before {statement}" else None
            refresh = asyncio.create_task(login.refresh(database))
            pid = await asyncio.to_thread(until_waiting, database_url)
            database.reach = lambda name: None
            assert server.execute("SELECT pg_terminate_backend(%s, 60000)", (pid,)).fetchone() == (True,)
            blocker.rollback()
        await refresh
        await login.assert_refreshed_once(database)


def lock_row(blocker: "psycopg.Connection[Any]") -> None:
    """Let the next write to the row wait."""
    blocker.execute("SELECT FROM authstate.accounts FOR UPDATE")


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[CuttingProxy]:
    folder = database_url.split("host=")[1].split()[0]
    async with CuttingProxy(f"{folder}/.s.PGSQL.5432") as running:
        yield running


def through(proxy: CuttingProxy, database_url: str) -> str:
    """The URL of a database behind a proxy."""
    return f"host=127.0.0.1 port={proxy.port} " + " ".join(database_url.split()[1:])


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_a_connection_that_is_closed_in_one_direction(
    statement: str, proxy: CuttingProxy, database_url: str
) -> None:
    login = Login()
    async with opened(through(proxy, database_url)) as database:
        await login.store_in(database)
        proxy.half_close_after(STATEMENTS[statement])
        await login.refresh(database)
        assert proxy.cuts == 1
        await login.assert_refreshed_once(database)


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_an_answer_that_comes_late(statement: str, proxy: CuttingProxy, database_url: str) -> None:
    login = Login()
    async with opened(through(proxy, database_url)) as database:
        await login.store_in(database)
        proxy.keep_answer_back(STATEMENTS[statement])
        refresh = asyncio.create_task(login.refresh(database))
        await proxy.until_kept_back()
        assert len(login.authority.sent) == (statement == "settle")
        proxy.release()
        await refresh
        await login.assert_refreshed_once(database)


async def test_a_claim_whose_answer_never_comes_sends_nothing(proxy: CuttingProxy, database_url: str) -> None:
    """The server did it, and the connection stays open: nothing but the time tells that nobody answers."""
    login = Login()
    async with opened(through(proxy, database_url)) as database:
        await login.store_in(database)
        database.reach = give_up_claims(database)
        proxy.keep_answer_back(STATEMENTS["claim"])
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            await login.refresh(database)
        assert login.authority.sent == []
        database.reach = lambda step: None
        await login.refresh(database)
        await login.assert_refreshed_once(database)
