"""A server that crashes in the middle of a refresh."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import psycopg
import pytest
from faults.postgres_parts import Login, let_the_hold_end, opened, until_waiting
from faults.stopped_holder import SteppedDatabase
from support.postgres import PostgresServer, running_server
from support.real_parts import RealParts

from authstate import PostgresDatabase, StoreUnavailable


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresDatabase, "_connect_within", 1.0)
    monkeypatch.setattr(PostgresDatabase, "_pauses", (0.0,))


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test only."""
    with running_server(RealParts().postgres()) as running:
        yield running


@pytest.fixture
async def database(server: PostgresServer) -> AsyncIterator[SteppedDatabase]:
    async with opened(await server.new_database()) as made:
        yield made


async def until_it_answers(login: Login, database: PostgresDatabase) -> None:
    """Refresh until it succeeds."""
    async with asyncio.timeout(60):
        while True:
            let_the_hold_end(database._conninfo)
            with suppress(StoreUnavailable):
                return await login.refresh(database)


async def test_a_server_that_crashes_in_the_middle_of_a_claim(
    server: PostgresServer, database: SteppedDatabase
) -> None:
    login = Login()
    await login.store_in(database)
    blocker = psycopg.connect(database._conninfo)
    try:

        def reach(step: str) -> None:
            if step == "before claim":
                blocker.execute("SELECT FROM authstate.accounts FOR UPDATE")
                database.reach = lambda later: None

        database.reach = reach
        refresh = asyncio.create_task(login.refresh(database))
        await asyncio.to_thread(until_waiting, database._conninfo)
        server.stop("immediate")
        server.start()
    finally:
        blocker.close()
    with suppress(StoreUnavailable):  # unless the hold was on the disk already
        await refresh
    assert len(login.authority.sent) <= 1
    await until_it_answers(login, database)
    await login.assert_refreshed_once(database)


async def test_an_answer_that_comes_while_the_server_is_gone_is_stored_once_it_is_back(
    server: PostgresServer, database: SteppedDatabase
) -> None:
    login = Login()
    await login.store_in(database)
    login.authority.on_answer = lambda: server.stop("immediate")
    async with login.engine(database) as engine:
        with pytest.raises(StoreUnavailable):
            await engine.authorization()
        server.start()
        let_the_hold_end(database._conninfo)
        await engine.authorization()
    await login.assert_refreshed_once(database)


async def test_a_claim_survives_a_crash(server: PostgresServer, database: SteppedDatabase) -> None:
    """It is on the disk before the token is sent, so whoever comes next knows that the token may be spent."""
    login = Login()
    await login.store_in(database)

    def crash() -> None:
        server.stop("immediate")
        server.start()

    login.authority.on_answer = crash
    await login.refresh(database)
    await login.assert_refreshed_once(database)
