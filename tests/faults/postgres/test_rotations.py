"""A key that is rotated while processes refresh."""

import sys

import pytest
from faults.reports import report_of
from support.real_parts import RealParts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the processes fork")


def test_a_key_is_rotated_while_processes_refresh(real_parts: RealParts) -> None:
    real_parts.postgres()
    report = report_of("faults.postgres_rotation", "--accounts", "12", name="postgres_rotation.json")
    assert (report["keys"], report["lost_or_old"], report["refreshes_refused"]) == (["second"], [], 0)
    assert (report["accounts_refreshed"], report["statuses"]) == (6, [0])
    assert not report["meanwhile"].startswith("Encrypted 0 logins")
    assert "No other key encrypts a login" in report["afterwards"]
