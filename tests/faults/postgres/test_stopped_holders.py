"""A holder that is stopped (SIGSTOP) for longer than its hold, at every step of a refresh, and then goes on."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from faults.forked_processes import token_digest
from faults.stopped_holder import KEYS, SETTINGS
from faults.stopped_process import Holder
from support.cutting_proxy import CuttingProxy

from authstate import AuthEngine, ChatgptTokens, PermanentRefreshError, PostgresDatabase
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.testing import LoopbackIssuer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP exists on Unix only")

UNAVAILABLE: dict[str, Any] = {"mode": "status", "status": 503, "retry_after": 60, "times": 1}
"""The refresh ends after one try, so the row is given free without an answer."""


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


@pytest.mark.parametrize("step", ["before release", "after release"])
async def test_a_holder_that_is_stopped_while_it_gives_the_row_free_sends_nothing_then(
    step: str, holder: Holder, other: AuthEngine, issuer: LoopbackIssuer
) -> None:
    issuer.behave(**UNAVAILABLE)
    holder.start(step)
    holder.until_stopped()
    holder.let_an_hour_pass()
    async with other as engine:
        await engine.authorization()
        report = holder.go_on()
        assert [text.split(":")[0] for text in report["errors"]] == ["IssuerUnavailable"]
        assert report["token"] == token_digest(engine.session.credentials)
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


async def test_a_release_that_comes_late_does_not_free_the_row_of_another_holder(
    holder: Holder, other: AuthEngine, issuer: LoopbackIssuer, database_url: str
) -> None:
    issuer.behave(**UNAVAILABLE)
    holder.start("before release, after release")
    holder.until_stopped()
    holder.let_an_hour_pass()
    issuer.hold("refresh", "answer", times=1)
    async with other as engine:
        refresh = asyncio.create_task(engine.authorization())
        await asyncio.to_thread(until_accepted, issuer)
        holder.go_on_until_stopped()
        with psycopg.connect(database_url) as connection:
            is_held = "SELECT held_until IS NOT NULL FROM authstate.accounts"
            assert connection.execute(is_held).fetchall() == [(True,)]
        issuer.release()
        await refresh
        report = await asyncio.to_thread(holder.go_on)
        assert report["token"] == token_digest(engine.session.credentials)
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


@pytest.mark.parametrize(
    ("words", "error"), [(b"ON CONFLICT (account) DO UPDATE", "StoreBusy"), (b"authstate_free", "IssuerUnavailable")]
)
async def test_a_holder_that_is_stopped_after_a_commit_and_before_its_answer_sends_nothing(
    words: bytes, error: str, issuer: LoopbackIssuer, other: AuthEngine, database_url: str, tmp_path: Path
) -> None:
    if error == "IssuerUnavailable":
        issuer.behave(**UNAVAILABLE)
    place = database_url.split()
    async with CuttingProxy(f"{place[0].removeprefix('host=')}/.s.PGSQL.5432") as proxy, other as engine:
        proxy.keep_answer_back(words)
        holder = Holder(f"host=127.0.0.1 port={proxy.port} {' '.join(place[1:])}", issuer, tmp_path)
        try:
            holder.start("never")
            await proxy.until_kept_back()
            holder.stop()
            await asyncio.to_thread(holder.let_an_hour_pass)
            await engine.authorization()
            proxy.release()
            report = await asyncio.to_thread(holder.go_on)
        finally:
            holder.end()
        assert [text.split(":")[0] for text in report["errors"]] == [error]
        assert report["token"] == token_digest(engine.session.credentials)
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


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
