"""Many processes and many accounts on one database."""

import sys

import pytest
from faults.reports import report_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the processes fork")


async def test_accounts_that_expire_at_once_are_refreshed_once_each(database_url: str) -> None:
    report = report_of(
        "faults.postgres_many",
        *("--processes", "4", "--accounts", "40", "--url", database_url),
        name="postgres_many.json",
    )
    assert report["errors"] == []
    assert (report["refreshes_accepted"], report["refreshes_refused"]) == (40, 0)
    assert report["processes_that_hold_the_same_tokens"] == 4
    assert report["statuses"] == [0]
