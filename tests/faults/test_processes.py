"""Real processes on one home: they refresh at the same time, are killed, or get a signal during a refresh."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.reports import clean, report_of

from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ChatgptTokens
from authstate.testing import LoopbackIssuer

LONGEST_END = 25.0
"""Seconds that the program may take to end after the issuer's answer. Most of it is for a busy machine. It must not be
the 30 seconds for which the end of an engine waits for a refresh.
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes fork and get signals on Unix only")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("processes", "rounds"), [(8, 20), (16, 50)])
def test_processes_that_refresh_at_once_share_one_refresh(processes: int, rounds: int) -> None:
    report = report_of(
        "faults.many_processes",
        *("--processes", str(processes), "--rounds", str(rounds)),
        name=f"many_processes_{processes}_{rounds}.json",
    )
    assert report["errors"] == []
    assert (report["refreshes_accepted"], report["refreshes_refused"]) == (rounds, 0)
    assert report["rounds_where_all_hold_the_newest_token"] == rounds
    assert report["different_tokens"] == rounds
    assert report["statuses"] == [0]
    assert report["reads"] > 1000
    assert report["reads_of_half_a_file"] == 0
    assert report["left_in_the_home"] == ["auth.json", "auth.json.authstate.claims", "auth.json.authstate.lock"]


@pytest.mark.timeout(600)
def test_a_hundred_kills_lose_nothing_that_was_stored() -> None:
    report = report_of("faults.kill_sweep", "--kills", "100", name="kill_sweep.json")
    assert report["faults"] == []
    assert report["kills"] >= 100
    spread = report["kills_after"]
    assert all(spread[moment] >= 1 for moment in ("locked", "asked", "answered", "renamed")), spread
    assert report["lost_newest_tokens"] > 0, "no kill lost the newest token: the sweep proves nothing"
    assert set(report["lost_after"]) <= {"asked", "answered", "filled"}


@pytest.fixture
def issuer() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as running:
        yield running


def sign_in(home: Path, issuer: LoopbackIssuer) -> str:
    """Store a login whose access token has expired. Returns its refresh token."""
    tokens = ChatgptTokens.read(**issuer.seed(expires_in=-60))

    async def save() -> None:
        async with AuthJsonStore(home).locked() as held:
            await held.save(tokens)

    asyncio.run(save())
    return tokens.refresh_token.reveal()


def until_asked(issuer: LoopbackIssuer) -> None:
    """Wait until the issuer has received a refresh token."""
    deadline = time.monotonic() + 60
    while not issuer.stats()["refresh_tokens_sent"]:
        assert time.monotonic() < deadline, "the refresh was not sent"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("command", ["token", "app-server"])
def test_a_signal_during_a_refresh_lets_it_be_stored_and_ends_promptly(
    command: str, number: int, status: int, issuer: LoopbackIssuer, tmp_path: Path
) -> None:
    before = sign_in(tmp_path, issuer)
    issuer.hold("refresh")
    environment = clean(HOME=str(tmp_path), CODEX_HOME=str(tmp_path), **issuer.environment)
    with subprocess.Popen(
        [sys.executable, "-m", "authstate.adapters.cli", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        try:
            assert process.stdin is not None
            if command == "app-server":
                hello = {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "n", "version": "1"}}}
                ask = {"id": 2, "method": "account/read", "params": {"refreshToken": True}}
                process.stdin.write(b"\n".join(json.dumps(line).encode() for line in (hello, ask)) + b"\n")
                process.stdin.flush()
            until_asked(issuer)
            began = time.monotonic()
            process.send_signal(number)
            issuer.release("refresh")
            assert process.wait(timeout=60) == status
            assert time.monotonic() - began < LONGEST_END
        finally:
            process.kill()
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
    stored = json.loads((tmp_path / "auth.json").read_bytes())["tokens"]["refresh_token"]
    assert stored != before
    beside = {f"auth.json.authstate.{tail}" for tail in ("lock", "claims", "journal")}
    assert set(os.listdir(tmp_path)) - beside == {"auth.json"}
