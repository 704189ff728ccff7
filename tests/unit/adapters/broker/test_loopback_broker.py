"""The OAuth endpoints on a loopback port, for the child of `authstate run`: over real sockets, with a real home."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.broker_world import BrokerWorld
from support.leaks import CANARY

from authstate.adapters.broker.loopback_broker import LoopbackBroker
from authstate.adapters.broker.oauth_messages import LARGEST_BODY
from authstate.adapters.config.settings import StoreMode
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.lease import LeaseRequest, LeaseState
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.testing import make_tokens

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Served:
    """A broker on a port, and a client."""

    def __init__(self, world: BrokerWorld, client: httpx.AsyncClient) -> None:
        self.world = world
        self.client = client

    async def refresh(self, token: str, **members: str) -> httpx.Response:
        """Refresh as codex does."""
        body = {"client_id": "app", "grant_type": "refresh_token", "refresh_token": token, **members}
        return await self.client.post("/oauth/token", json=body)

    async def login(self) -> tuple[ChatgptTokens, str]:
        """Sign in with tokens that can be found in a log, and make a lease."""
        tokens = make_tokens(refresh_token=f"rt-{CANARY}-1", now=self.world.clock.now())
        await self.world.store("home", self.world.authority.accept(tokens))
        return tokens, self.world.lease(tokens)[1].text().reveal()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    world = BrokerWorld(tmp_path, Vault(tmp_path, StoreMode.FILE))
    listener = socket.create_server(("127.0.0.1", 0))
    server = LoopbackBroker(world.broker, listener)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await server.start()
    async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=60) as client:
        yield Served(world, client)
    await server.close()
    await world.close()


async def test_a_lease_and_a_refresh_token_get_the_access_token(served: Served) -> None:
    tokens, handle = await served.login()
    answer = await served.refresh(handle)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    members = answer.json()
    assert members["access_token"] == tokens.access_token.reveal()
    assert members["refresh_token"].startswith(f"{handle}.")
    form = {"grant_type": "refresh_token", "refresh_token": members["refresh_token"]}
    members = (await served.client.post("/oauth/token", data=form)).json()
    stored = await served.world.stored()
    assert members["access_token"] == stored.access_token.reveal() != tokens.access_token.reveal()
    members = (await served.refresh(tokens.refresh_token.reveal())).json()
    assert members["access_token"] == stored.access_token.reveal()
    assert "refresh_token" not in members


async def test_a_revocation_ends_the_lease(served: Served) -> None:
    _, handle = await served.login()
    answer = await served.client.post("/oauth/revoke", json={"token": handle, "token_type_hint": "refresh_token"})
    assert (answer.status_code, answer.json()) == (200, {})
    assert served.world.leases.leases()[0].state is LeaseState.ENDED
    answer = await served.refresh(handle)
    assert answer.status_code == 401
    assert "was ended" in answer.json()["error"]["message"]


async def test_other_paths_and_methods_are_not_there(served: Served) -> None:
    for path in ("/", "/oauth/authorize", "/v1/leases", "/oauth/token/"):
        answer = await served.client.post(path, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    answer = await served.client.get("/oauth/token")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_another_host_is_named(served: Served) -> None:
    answer = await served.client.post("/oauth/token", json={}, headers={"Host": "evil.example:80"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "misdirected_request")
    assert "not reached as 'evil.example:80'" in answer.json()["error"]["message"]


def bad_requests(tokens: ChatgptTokens, handle: str) -> list[tuple[bytes, dict[str, str]]]:
    """Requests that no client should send; each holds a secret."""
    plain = {"Content-Type": "application/json"}
    login = tokens.refresh_token.reveal()
    request = json.dumps({"grant_type": "refresh_token", "refresh_token": login}).encode()
    form = f"grant_type=refresh_token&refresh_token={login}"
    return [
        (request[:-1], plain),
        (request, FORM),
        (form.encode(), plain),
        (form.encode(), {"Content-Type": "multipart/form-data; boundary=x"}),
        (f"{form}&refresh_token={handle}".encode(), FORM),
        (f"{form}%ff".encode(), FORM),
        (form.encode() + b"\xff", FORM),
        (request.replace(b"refresh_token", b"refresh_token\xff", 1), plain),
        (b'{"a":' * 50_000 + request, plain),
        (b"[" * 50_000, plain),
        (json.dumps({"grant_type": "password", "refresh_token": login}).encode(), plain),
        (json.dumps({"grant_type": "refresh_token", "refresh_token": [login]}).encode(), plain),
        (json.dumps({"grant_type": "refresh_token", "refresh_token": f"{handle}\n"}).encode(), plain),
        (json.dumps({"grant_type": "refresh_token", "refresh_token": handle[:-1]}).encode(), plain),
        (json.dumps({"grant_type": "refresh_token", "refresh_token": f"rt-{CANARY}-unknown"}).encode(), plain),
        (json.dumps({"grant_type": "refresh_token", "refresh_token": login + "\u0000"}).encode(), plain),
        (json.dumps({"grant_type": "refresh_token", "refresh_token": login + "é"}).encode(), plain),
    ]


async def test_bad_requests_get_an_oauth_error_and_nothing_is_lost_or_logged(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    tokens, handle = await served.login()
    secret = handle[-20:]
    caplog.set_level(logging.DEBUG)
    for path in ("/oauth/token", "/oauth/revoke"):
        for body, headers in bad_requests(tokens, handle):
            answer = await served.client.post(path, content=body, headers=headers)
            members: Any = answer.json()
            if path == "/oauth/revoke" and answer.status_code == 200:
                continue
            assert answer.status_code in (400, 401), (body[:80], answer.text)
            assert members["error_description"], body[:80]
            assert CANARY not in answer.text
            assert secret not in answer.text
    assert served.world.authority.sent == []
    assert not any("authstate_lease" in token for token in served.world.authority.revoked)
    assert await served.world.stored() == tokens
    ours = [record for record in caplog.records if record.name.startswith(("authstate", "asyncio"))]
    logged = " ".join(record.getMessage() for record in ours)
    assert CANARY not in logged
    assert secret not in logged
    assert (await served.refresh(handle)).status_code == 200


async def test_ten_megabytes_are_refused_and_the_next_client_is_served(served: Served) -> None:
    _, handle = await served.login()
    try:
        answer = await served.client.post("/oauth/token", content=b"x" * 10_000_000)
        assert answer.status_code in (400, 413)
    except httpx.HTTPError:
        pass  # the server closed the connection: it reads no more than it would accept
    answer = await served.client.post("/oauth/token", content=b"{" + b" " * LARGEST_BODY)
    assert answer.status_code in (400, 413)
    assert (await served.refresh(handle)).status_code == 200


@pytest.mark.parametrize("how", ["unknown", "ended", "expired", "of somebody else"])
async def test_a_handle_that_yields_nothing_is_refused_as_codex_expects(served: Served, how: str) -> None:
    tokens, handle = await served.login()
    lease = served.world.leases.leases()[0]
    if how == "unknown":
        handle = LeaseHandle.of(bytes(32)).text().reveal()
    elif how == "ended":
        served.world.leases.end(lease.id)
    elif how == "expired":
        handle = served.world.leases.make(LeaseRequest("home", tokens.account, ttl=60.0))[1].text().reveal()
        served.world.clock.advance(60)
    else:
        await served.world.sign_in(account_id="org-2")
    answer = await served.refresh(handle)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "refresh_token_invalidated"
    form = {"grant_type": "refresh_token", "refresh_token": handle}
    answer = await served.client.post("/oauth/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_idle_connections_hold_nobody_up(served: Served) -> None:
    _, handle = await served.login()
    port = served.client.base_url.port
    assert port is not None
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(150)]
    assert (await served.refresh(handle)).status_code == 200
    for _, writer in idle:
        writer.close()
