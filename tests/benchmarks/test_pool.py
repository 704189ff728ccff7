"""What a thousand idle accounts in a pool cost, each with a home on disk: under 60 MB, and no work while idle."""

import json
import subprocess
import sys

import pytest
from support.module_commands import command_of, with_tests

ACCOUNTS = 1000


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_a_thousand_idle_accounts_take_less_than_60_mb() -> None:
    done = subprocess.run(
        command_of("benchmarks.many_accounts", str(ACCOUNTS)),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
        env=with_tests(),
    )
    costs = json.loads(done.stdout)
    print(f"\n{ACCOUNTS} idle accounts in a pool: {costs}")
    assert costs["growth_mb"] < 60
    assert costs["tasks"] <= 1
