"""A server that fails while many processes refresh."""

import sys

import pytest
from faults.reports import report_of
from support.real_parts import RealParts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the processes fork")


@pytest.mark.parametrize("kind", ["restart", "promotion"])
def test_a_server_that_fails_meanwhile_costs_no_token_and_no_login(kind: str, real_parts: RealParts) -> None:
    real_parts.postgres()
    options = (kind, "--processes", "3", "--accounts", "12")
    report = report_of("faults.postgres_failover", *options, name=f"postgres_{kind}.json")
    assert report["errors"] == []
    assert (report["refreshes_accepted"], report["refreshes_refused"]) == (12, 0)
    assert report["logins_stored"] == 12
    assert report["processes_that_hold_the_same_tokens"] == 3
    assert report["statuses"] == [0]
