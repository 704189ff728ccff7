"""A broker behind pgbouncer in transaction mode, where no notification is heard, while its server crashes."""

import asyncio
import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.brokers import BrokerService
from support.database_brokers import store
from support.pgbouncer import running_pgbouncer
from support.postgres import PostgresServer, running_server
from support.real_parts import RealParts
from support.wire_client import AUTHSTATE, clean_environment

from authstate import ChatgptTokens, EncryptionKeys, PostgresDatabase
from authstate.testing import LoopbackIssuer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pgbouncer runs on Unix only")
KEY = bytes(range(32))


@pytest.fixture
def server(real_parts: RealParts) -> Iterator[PostgresServer]:
    """A server of this test only."""
    with running_server(real_parts.postgres()) as running:
        yield running


def ask(url: str, handle: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": handle}
    return httpx.post(f"{url}/oauth/token", data=form, timeout=60)


def metrics(url: str) -> str:
    return httpx.get(f"{url}/metrics", timeout=60).text


async def until_health_is(url: str, status: str) -> dict[str, Any]:
    """Wait for an answer of /healthz with this status."""
    async with httpx.AsyncClient(timeout=60) as client, asyncio.timeout(60):
        while (answer := (await client.get(f"{url}/healthz")).json())["status"] != status:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.05)
    found: dict[str, Any] = answer
    return found


async def test_a_broker_serves_tokens_while_its_server_is_away_and_recovers(
    server: PostgresServer, real_parts: RealParts, issuer: LoopbackIssuer, tmp_path: Path
) -> None:
    direct = await server.new_database()
    file = tmp_path / "keys"
    file.write_text("first=" + base64.b64encode(KEY).decode())
    file.chmod(0o600)
    home = tmp_path / "home"
    home.mkdir()
    with running_pgbouncer(real_parts.pgbouncer(), server) as folder:
        url = f"host={folder} " + " ".join(direct.split()[1:])
        async with PostgresDatabase(direct, EncryptionKeys({"first": KEY}), listens=False) as database:
            await store(database, ChatgptTokens.read(**issuer.seed()))
        options = ("--store", url, "--keys", str(file))
        with BrokerService(home, issuer, *options) as broker:
            handle = new_lease(home, options, broker.url)
            token = ask(broker.url, handle).json()["access_token"]
            server.stop("immediate")
            assert "have not expired" in (await until_health_is(broker.url, "degraded"))["reason"]
            assert "authstate_database_available 0.0" in metrics(broker.url)
            assert ask(broker.url, handle).json()["access_token"] == token
            server.start()
            await until_health_is(broker.url, "ok")
            assert "authstate_database_available 1.0" in metrics(broker.url)
            granted = ask(broker.url, handle).json()
            assert granted["access_token"] == token
    assert issuer.stats()["refreshes_refused"] == 0


def new_lease(home: Path, options: tuple[str, ...], url: str) -> str:
    words = ("--account", "alice", "lease", "new", "--json", *options, "--broker-url", url)
    made = subprocess.run([*AUTHSTATE, *words], env=clean_environment(home), capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    handle: str = json.loads(made.stdout)["handle"]
    return handle
