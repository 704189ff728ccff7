"""pgbouncer in transaction mode: each statement may run on another connection to the server."""

import sys

import pytest
from faults.postgres_parts import Login, opened
from faults.reports import report_of
from support.pgbouncer import running_pgbouncer
from support.postgres import PostgresServer
from support.real_parts import RealParts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the processes fork")


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
