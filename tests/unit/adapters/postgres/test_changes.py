"""Changes by other machines: how they are noticed, and that a warm engine asks the database nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from authstate import ApiKey, AuthEngine, AuthState, EncryptionKeys, PostgresDatabase, PostgresStore
from authstate.adapters.postgres.changes import Changes
from authstate.testing import FakeAuthority, make_tokens

KEY = ApiKey.parse("sk-changes-0123456789")


class CountingDatabase(PostgresDatabase):
    """Counts its statements."""

    fetched = 0

    async def fetch(self, statement: str, values: Mapping[str, Any]) -> Any:
        self.fetched += 1
        return await super().fetch(statement, values)


Pair = tuple[CountingDatabase, CountingDatabase]


@pytest.fixture
async def databases(database_url: str, keys: EncryptionKeys) -> AsyncIterator[Pair]:
    one, other = CountingDatabase(database_url, keys), CountingDatabase(database_url, keys)
    for database in (one, other):
        await database.store("alice").load()  # it connects
        await until(lambda database=database: database.store("alice").revision() is not None)  # type: ignore[misc]
    yield one, other
    await one.aclose()
    await other.aclose()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - no event is set when it becomes true
            await asyncio.sleep(0.001)


async def save(store: PostgresStore, credentials: Any) -> None:
    async with store.locked() as held:
        await held.save(credentials)


async def test_a_change_by_another_machine_changes_the_revision(
    databases: Pair,
) -> None:
    one, other = databases[0].store("alice"), databases[1].store("alice")
    before = one.revision()
    await save(databases[1].store("bob"), KEY)
    await save(other, KEY)
    await until(lambda: one.revision() != before)
    assert await one.load() == KEY


async def test_a_warm_engine_asks_the_database_nothing(databases: Pair) -> None:
    database, other = databases
    tokens = make_tokens()
    await save(database.store("alice"), tokens)
    async with AuthEngine(database.store("alice"), FakeAuthority(tokens)) as engine:
        for _ in range(3):  # a revision counts as read at the second look
            await engine.follow(adopt=True)
        before = database.fetched
        for _ in range(100):
            await engine.authorization()
            await engine.follow(adopt=True)
        assert database.fetched == before
        await save(other.store("alice"), KEY)
        async with asyncio.timeout(60):
            while engine.session.state is not AuthState.API_KEY:
                await engine.follow(adopt=True)
                await asyncio.sleep(0.001)


async def test_changes_are_found_while_the_connection_is_lost(databases: Pair, database_url: str) -> None:
    """And it is made again."""
    store = databases[0].store("alice")
    await until(lambda: databases[0].changes.is_listening)
    for _ in range(2):
        before = store.revision()
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
        await until(lambda: not databases[0].changes.is_listening)
        await save(databases[1].store("alice"), KEY)
        await until(lambda before=before: store.revision() != before)  # type: ignore[misc]
        await until(lambda: databases[0].changes.is_listening)


async def test_a_change_that_nobody_told_is_found_by_a_look(
    database_url: str, keys: EncryptionKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ended right after it had stored the login."""
    monkeypatch.setattr("authstate.adapters.postgres.changes._LOOK_AGAIN", 0.05)
    async with (
        PostgresDatabase(database_url, keys) as one,
        PostgresDatabase(database_url, keys, listens=False) as other,
    ):
        monkeypatch.setattr(other.notices, "send", lambda account, version: None)
        store = one.store("alice")
        await store.load()
        await until(lambda: one.changes.is_listening)
        before = store.revision()
        await save(other.store("alice"), KEY)
        await until(lambda: store.revision() != before)
        assert one.changes.is_listening


async def test_a_waiter_goes_on_as_soon_as_the_row_is_free(databases: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would ask by itself only after an hour."""
    monkeypatch.setattr("authstate.adapters.postgres.store._FIRST_WAIT", 3600.0)
    holder, waiter = databases[0].store("alice"), PostgresStore(databases[1], "alice", lock_timeout=3600.0)
    async with holder.locked() as held:
        waiting = asyncio.create_task(save(waiter, KEY))
        asked = databases[1].fetched
        await until(lambda: databases[1].fetched > asked)
        await held.prepare()
    await asyncio.wait_for(waiting, 60)


async def test_without_notifications_one_query_a_second_finds_all_changes(
    database_url: str, keys: EncryptionKeys
) -> None:
    async with (
        CountingDatabase(database_url, keys, listens=False) as one,
        PostgresDatabase(database_url, keys, listens=False) as other,
    ):
        stores = [one.store(f"account-{number}") for number in range(20)]
        await stores[0].load()
        await until(lambda: stores[0].revision() is not None)
        before = [store.revision() for store in stores]
        asked = one.fetched
        for number in range(20):
            await save(other.store(f"account-{number}"), KEY)
        await until(lambda: all(store.revision() != old for store, old in zip(stores, before, strict=True)))
        assert one.fetched == asked


async def test_what_this_process_wrote_is_no_news(databases: Pair) -> None:
    store, other = databases[0].store("alice"), databases[1].store("alice")
    before, others = store.revision(), other.revision()
    await save(store, KEY)
    await until(lambda: other.revision() != others)
    bob = databases[0].store("bob")
    heard = bob.revision()
    await save(databases[1].store("bob"), KEY)
    await until(lambda: bob.revision() != heard)
    assert store.revision() == before


async def test_a_cancellation_that_is_lost_is_repeated() -> None:
    is_asked = asyncio.Event()

    async def recent(since: float) -> list[Any]:
        is_asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return []

    changes = Changes(None, recent)
    changes.start()
    await is_asked.wait()
    async with asyncio.timeout(60):
        await changes.aclose()


@pytest.mark.parametrize("payload", ["", "alice", "alice x", "alice -1", "alice " + "9" * 5000])
async def test_a_notification_of_a_stranger_ends_nothing(databases: Pair, database_url: str, payload: str) -> None:
    database, other = databases
    await until(lambda: database.changes.is_listening)
    store = database.store("alice")
    before = store.revision()
    with psycopg.connect(database_url, autocommit=True) as stranger:
        stranger.execute("SELECT pg_notify('authstate_login', %s)", (payload,))
    await save(other.store("alice"), KEY)
    await until(lambda: store.revision() != before)
    assert database.changes.is_listening
