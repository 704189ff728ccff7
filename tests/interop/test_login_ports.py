"""Logins of codex and of authstate want the same port: who comes second gets it, and the first one's client hears."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from filelock import FileLock
from support.codex_binaries import cache_folder
from support.login_harness import LoginHarness, agree, follow_redirect
from support.wire_client import WireClient, clean_environment

from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.oauth.redirect import port as port_module
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
BROWSER = {"type": "chatgpt"}
COMPLETED = "account/login/completed"


@pytest.fixture
def client(codex: Path, make_home: MakeHome, issuer: LoopbackIssuer) -> Iterator[WireClient]:
    """A client of the real codex that has introduced itself. The ports of codex are the same for all runs here."""
    with (
        FileLock(cache_folder() / "ports-of-codex.lock"),
        WireClient([str(codex)], clean_environment(make_home(), **issuer.environment)) as started,
    ):
        started.initialize()
        yield started


@pytest.fixture
async def harness(issuer: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LoginHarness]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(port_module, "_ANSWER_WITHIN", 60.0)  # a busy machine
    monkeypatch.setattr(port_module, "_FREE_WITHIN", 60.0)
    made = LoginHarness(Issuer(issuer.url))
    async with made.engine:
        yield made


async def start_at_codex(client: WireClient) -> tuple[str, int]:
    """Start a browser login; its name, and the port that it holds."""
    started: dict[str, Any] = await asyncio.to_thread(client.result, "account/login/start", BROWSER)
    [redirect] = parse_qs(urlsplit(started["authUrl"]).query)["redirect_uri"]
    port = urlsplit(redirect).port
    assert port is not None
    return started["loginId"], port


async def test_a_login_of_codex_gives_way_to_ours(
    client: WireClient, harness: LoginHarness, issuer: LoopbackIssuer
) -> None:
    login_id, port = await start_at_codex(client)
    ours = await harness.start(ports=(port,))
    told = await asyncio.to_thread(client.until, COMPLETED)
    assert (ours.port, told["loginId"], told["success"]) == (port, login_id, False)
    assert (await follow_redirect(ours, agree(ours, issuer))).title == "You are signed in"


async def test_our_login_gives_way_to_one_of_codex(client: WireClient, harness: LoginHarness) -> None:
    login_id, port = await start_at_codex(client)
    ours = await harness.start(ports=(port,))
    await asyncio.to_thread(client.until, COMPLETED)
    again, same = await start_at_codex(client)
    await asyncio.wait_for(ours.closed(), 60)
    assert (same, ours.attempt.state) == (port, "cancelled")
    assert [(event.success, event.error) for event in harness.outcomes] == [(False, "the login was cancelled")]
    await asyncio.to_thread(client.result, "account/login/cancel", {"loginId": again})
    assert again != login_id
