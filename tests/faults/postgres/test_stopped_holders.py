"""A holder that is stopped (SIGSTOP) for longer than its hold, at every step of a refresh, and then goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from faults.forked_processes import token_digest
from faults.reports import clean
from faults.stopped_holder import KEYS, SETTINGS, advance
from support.module_commands import command_of, with_tests

from authstate import AuthEngine, ChatgptTokens, PermanentRefreshError, PostgresDatabase
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.testing import LoopbackIssuer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP exists on Unix only")
AN_HOUR = 3600.0


class Holder:
    """The process that is stopped."""

    def __init__(self, url: str, issuer: LoopbackIssuer, folder: Path) -> None:
        self._url = url
        self._issuer = issuer
        self._clock = folder / "clock"
        self._process: subprocess.Popen[str] | None = None
        advance(self._clock, 0.0)

    def start(self, step: str) -> None:
        command = command_of("faults.stopped_holder", self._url, self._issuer.url, step, str(self._clock))
        pipe = subprocess.PIPE
        environment = with_tests(clean())
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def until_stopped(self) -> None:
        assert self._process is not None
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"it ended with {status} before it reached the step"

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self.until_stopped()

    def let_an_hour_pass(self) -> None:
        """Let the hold end, for the database and for the process."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            ended = "UPDATE authstate.accounts SET held_until = held_until - interval '1 hour'"
            connection.execute(ended)
        advance(self._clock, AN_HOUR)

    def go_on(self) -> dict[str, Any]:
        """Let it go on, to its end. Returns its report."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        output, _ = self._process.communicate("\n", timeout=60)
        report: dict[str, Any] = json.loads(output)
        return report

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def issuer() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as running:
        yield running


@pytest.fixture
async def other(database_url: str, issuer: LoopbackIssuer) -> AsyncIterator[AuthEngine]:
    """An engine of another machine, which was not started yet. The account is signed in; its token has expired."""
    async with PostgresDatabase(database_url, KEYS, connections=2, listens=False) as database:
        store = database.store("alice")
        async with store.locked() as held:
            await held.save(ChatgptTokens.read(**issuer.seed(expires_in=-60)))
        yield AuthEngine(store, HttpTokenAuthority(issuer.url, "client"), settings=SETTINGS)


@pytest.fixture
def holder(database_url: str, issuer: LoopbackIssuer, tmp_path: Path) -> Iterator[Holder]:
    made = Holder(database_url, issuer, tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("before take", None),
        ("after take", "StoreBusy"),
        ("before claim", "StoreBusy"),
        ("after claim", "StoreBusy"),
        ("before check", "StoreBusy"),
        ("after settle", None),
    ],
)
async def test_a_stopped_holder_sends_nothing_once_another_has_refreshed(
    step: str, error: str | None, holder: Holder, other: AuthEngine, issuer: LoopbackIssuer
) -> None:
    holder.start(step)
    holder.until_stopped()
    holder.let_an_hour_pass()
    async with other as engine:
        await engine.authorization()
        report = holder.go_on()
        assert [text.split(":")[0] for text in report["errors"]] == ([] if error is None else [error])
        assert report["token"] == token_digest(engine.session.credentials)
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


async def test_the_one_moment_in_which_two_send_a_token_is_noticed_and_costs_no_login(
    holder: Holder, other: AuthEngine, issuer: LoopbackIssuer
) -> None:
    """Between the check and the write nothing can stop a process from sending what it has checked."""
    holder.start("before write")
    holder.until_stopped()
    holder.let_an_hour_pass()
    async with other as engine:
        await engine.authorization()
        report = holder.go_on()
        assert report["token"] == token_digest(engine.session.credentials)
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 1)


@pytest.mark.parametrize("step", ["while it is answered", "after answer", "before settle"])
async def test_an_answer_that_comes_after_the_hold_is_not_lost(
    step: str, holder: Holder, other: AuthEngine, issuer: LoopbackIssuer
) -> None:
    """Another machine has sent the token in doubt, because its access token has expired; it is told what happened."""
    if step == "while it is answered":
        issuer.hold("refresh", "answer", times=1)
    holder.start(step)
    if step == "while it is answered":
        until_accepted(issuer)
        holder.stop()
        issuer.release()
    else:
        holder.until_stopped()
    holder.let_an_hour_pass()
    async with other as engine:
        with pytest.raises(PermanentRefreshError, match="ended in the middle of a refresh"):
            await engine.authorization()
        report = holder.go_on()
        await engine.authorization()
        assert report["token"] == token_digest(engine.session.credentials)
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 1)


def until_accepted(issuer: LoopbackIssuer) -> None:
    """Wait until the issuer has accepted a refresh token."""
    while not issuer.stats()["refreshes_accepted"]:
        pass
