"""What it costs to hear of every change: by notifications, and by the look for what was changed (changes.py)."""

import asyncio
import time

import psycopg
from benchmarks.postgres_accounts import KEYS, name_of
from benchmarks.postgres_figures import Figure, work_of
from support.postgres import PostgresServer

from authstate import PostgresDatabase
from authstate.adapters.postgres.changes import Changes

NOTIFICATIONS = 5000
LISTENERS = 16
LOOKS = 10
PAUSE = 0.0002
"""Seconds between two notifications, so that most of them wake a listener by themselves."""
_SEND = """
    DO $$ BEGIN
        SET synchronous_commit = off;
        FOR n IN 1..{notifications} LOOP
            PERFORM pg_notify('authstate_login', 'account-' || n || ' 2');
            COMMIT;
            PERFORM pg_sleep({pause});
        END LOOP;
    END $$
"""


async def hearing(running: PostgresServer, name: str, accounts: int) -> list[Figure]:
    """Measure what one process pays, and the server for it, in processor time.

    Args:
        running: the server.
        name: of a database whose logins are marked as changed here.
        accounts: how many it has.
    """
    in_process, server_for_one = await _heard_in_a_process(running, name, PAUSE)
    at_once, _ = await _heard_in_a_process(running, name, 0.0)
    server_for_more = await _heard_by(running, name, LISTENERS) - server_for_one
    look, server_look = await _looks(running, name, accounts)
    return [
        Figure("hearing a notification, in each process", in_process, "us"),
        Figure("the same, if many come at once", at_once, "us"),
        Figure("hearing a notification, in PostgreSQL for each process", server_for_more / (LISTENERS - 1), "us"),
        Figure("finding a change by a look, in each process", look, "us"),
        Figure("finding a change by a look, in PostgreSQL for each process", server_look, "us"),
    ]


async def _heard_in_a_process(running: PostgresServer, name: str, pause: float) -> tuple[float, float]:
    """Send notifications to a process that has no engine of their accounts. Returns microseconds for each: in the
    process, and in the server.
    """
    async with PostgresDatabase(running.url(name), KEYS, connections=1) as database:
        last = database.store(f"account-{NOTIFICATIONS}")
        await last.load()  # it connects
        while not database.changes.is_listening:  # noqa: ASYNC110 - no event is set when it becomes true
            await asyncio.sleep(0.01)
        heard = database.changes.watched(last.account).next_news()
        server, process = work_of(running, name).cpu_ms, time.thread_time()
        await asyncio.gather(_send(running, name, pause), heard.wait())
        process = time.thread_time() - process
        return process * 1e6 / NOTIFICATIONS, (work_of(running, name).cpu_ms - server) * 1e3 / NOTIFICATIONS


async def _heard_by(running: PostgresServer, name: str, listeners: int) -> float:
    """Send notifications to so many connections. Returns the microseconds of the server for each notification."""

    async def listen(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        async with connection:
            async for _ in connection.notifies(stop_after=NOTIFICATIONS):
                pass

    connections = [await psycopg.AsyncConnection.connect(running.url(name), autocommit=True) for _ in range(listeners)]
    for connection in connections:
        await connection.execute("LISTEN authstate_login")
    before = work_of(running, name).cpu_ms
    await asyncio.gather(_send(running, name, PAUSE), *map(listen, connections))
    return (work_of(running, name).cpu_ms - before) * 1e3 / NOTIFICATIONS


async def _send(running: PostgresServer, name: str, pause: float) -> None:
    statement = _SEND.format(notifications=NOTIFICATIONS, pause=pause)
    await asyncio.to_thread(running.execute, statement, database=name)


async def _looks(running: PostgresServer, name: str, accounts: int) -> tuple[float, float]:
    """Look for changes where all logins were changed. Returns microseconds for each: in the process, in the server."""
    running.execute("UPDATE authstate.accounts SET changed_at = clock_timestamp()", database=name)
    running.execute("VACUUM ANALYZE authstate.accounts", database=name)
    async with PostgresDatabase(running.url(name), KEYS, connections=1, listens=False) as database:
        store = database.store(name_of(0))
        await store.load()  # it connects
        while store.revision() is None:  # noqa: ASYNC110 - no event is set at the first look
            await asyncio.sleep(0.01)
        server, process = work_of(running, name).cpu_ms, time.thread_time()
        for _ in range(LOOKS):
            await Changes(None, database._recent)._look()
        process = time.thread_time() - process
        found = LOOKS * accounts
        return process * 1e6 / found, (work_of(running, name).cpu_ms - server) * 1e3 / found
