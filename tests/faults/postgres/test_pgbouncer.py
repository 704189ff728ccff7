"""pgbouncer in transaction mode: each statement may run on another connection to the server."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from faults.postgres_parts import Login, opened
from faults.reports import report_of
from support.pgbouncer import running_pgbouncer
from support.postgres import PostgresServer
from support.real_parts import RealParts

from authstate import ApiKey, EncryptionKeys, PostgresDatabase, StoreUnavailable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the processes fork")


async def test_a_pooler_is_found_and_changes_are_asked_for(
    real_parts: RealParts, postgres_server: PostgresServer, database_url: str
) -> None:
    """A LISTEN in transaction mode would stay on a connection that other clients get."""
    with running_pgbouncer(real_parts.pgbouncer(), postgres_server) as folder:
        url = f"host={folder} " + " ".join(database_url.split()[1:])
        keys = EncryptionKeys({"first": bytes(32)})
        async with (
            PostgresDatabase(url, keys, connections=2) as pooled,
            PostgresDatabase(url, keys, connections=2, listen_url=database_url) as direct,
        ):
            followers = [database.store("alice") for database in (pooled, direct)]
            for follower in followers:
                assert await follower.load() is None
            await until(lambda: direct.changes.is_listening and None not in [one.revision() for one in followers])
            before = [follower.revision() for follower in followers]
            writer = PostgresDatabase(database_url, keys, listens=False)
            async with writer, writer.store("alice").locked() as held:
                await held.save(ApiKey.parse("sk-other-0123456789"))
            await until(lambda: all(one.revision() != seen for one, seen in zip(followers, before, strict=True)))
            assert not pooled.changes.is_listening


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)


async def test_processes_share_two_connections(
    real_parts: RealParts, postgres_server: PostgresServer, database_url: str
) -> None:
    with running_pgbouncer(real_parts.pgbouncer(), postgres_server) as folder:
        url = f"host={folder} " + " ".join(database_url.split()[1:])
        login = Login()
        async with opened(url) as database:
            await login.store_in(database)
            await login.refresh(database)
            await login.assert_refreshed_once(database)
        options = ("--processes", "4", "--accounts", "20", "--no-listens", "--url", url)
        report = report_of("faults.postgres_many", *options, name="postgres_pgbouncer.json")
    assert report["errors"] == []
    assert (report["refreshes_accepted"], report["refreshes_refused"]) == (20, 0)
    assert report["processes_that_hold_the_same_tokens"] == 4


async def test_a_pgbouncer_that_is_gone_costs_no_token(
    real_parts: RealParts, postgres_server: PostgresServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = Login()
    with ExitStack() as running:
        folder = running.enter_context(running_pgbouncer(real_parts.pgbouncer(), postgres_server))
        url = f"host={folder} " + " ".join(database_url.split()[1:])
        async with opened(url) as database:
            await login.store_in(database)
            async with login.engine(database) as engine:
                running.close()
                monkeypatch.setattr(PostgresDatabase, "_pauses", (0.0,))
                monkeypatch.setattr(PostgresDatabase, "_connect_within", 0.1)
                with pytest.raises(StoreUnavailable):
                    await engine.authorization()
    assert login.authority.sent == []
    async with opened(database_url) as database:
        await login.refresh(database)
        await login.assert_refreshed_once(database)
