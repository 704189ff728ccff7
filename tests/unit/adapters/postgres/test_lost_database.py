"""A broker whose database is lost goes on with what it has, and says so."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.cutting_proxy import CuttingProxy
from support.database_brokers import Machine, machine, sign_in

from authstate import EncryptionKeys
from authstate.adapters.broker.account_tokens import make_lease
from authstate.adapters.broker.app import create_broker_app
from authstate.adapters.broker.broker_log import BrokerLog
from authstate.adapters.broker.oauth_errors import OAuthError, OAuthRefusal
from authstate.adapters.database_broker import leases as database_leases
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.testing import FakeAuthority


@pytest.fixture
def authority() -> FakeAuthority:
    return FakeAuthority()


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[CuttingProxy]:
    folder = database_url.split("host=")[1].split()[0]
    async with CuttingProxy(f"{folder}/.s.PGSQL.5432") as running:
        yield running


@pytest.fixture
async def place(
    database_url: str, proxy: CuttingProxy, keys: EncryptionKeys, authority: FakeAuthority, tmp_path: Path
) -> AsyncIterator[Machine]:
    name = database_url.split("dbname=")[1].split()[0]
    url = f"host=127.0.0.1 port={proxy.port} dbname={name} user=postgres"
    async with machine(url, keys, authority, tmp_path) as made:
        yield made


async def until_lost(place: Machine, *, is_lost: bool = True) -> None:
    async with asyncio.timeout(60):
        while ((await place.broker.accounts.health()).reason is not None) != is_lost:  # noqa: ASYNC110 - no event is set
            await asyncio.sleep(0.05)


async def answers(place: Machine) -> tuple[int, dict[str, str], str]:
    """What /healthz and /metrics answer."""
    transport = httpx.ASGITransport(create_broker_app(place.broker))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        health, metrics = await client.get("/healthz"), await client.get("/metrics")
    return health.status_code, health.json(), metrics.text


async def test_unexpired_tokens_of_open_engines_are_served_without_the_database(
    place: Machine, proxy: CuttingProxy, authority: FakeAuthority
) -> None:
    tokens = await sign_in(place.database, authority)
    await sign_in(place.database, authority, "bob")
    made = await make_lease(place.broker, "alice", 3600.0)
    bobs, handle = await make_lease(place.broker, "bob"), made.handle
    assert (await place.ask(handle.secret)).access_token == tokens.access_token.reveal()
    await place.broker.accounts.pool.drop("bob")
    lines: list[tuple[str, dict[str, object]]] = []

    def write(event: str, /, **members: object) -> None:
        lines.append((event, members))

    log = BrokerLog(place.broker, write, write)
    assert (await answers(place))[:2] == (200, {"status": "ok", "version": (await answers(place))[1]["version"]})
    proxy.lose()
    during = await place.ask(handle.secret)  # nobody knows yet that it is lost
    assert during.access_token == tokens.access_token.reveal()
    await until_lost(place)
    elapsed = place.database.elapsed
    place.database.elapsed = lambda: elapsed() + database_leases.KEPT
    for _ in range(3):
        grant = await place.ask(handle.secret)
        assert grant.access_token == tokens.access_token.reveal()
    same = await place.ask(handle.text(tokens.access_token), is_refused=False)  # it cannot be refreshed now
    assert same.access_token == tokens.access_token.reveal()
    for refused in (handle.text(tokens.access_token), bobs.handle.secret, LeaseHandle.of(b"x" * 32).secret):
        with pytest.raises(OAuthRefusal) as refusal:
            await place.ask(refused)
        assert refusal.value.error is OAuthError.TEMPORARILY_UNAVAILABLE
    assert authority.sent == []

    status, health, metrics = await answers(place)
    assert (status, health["status"]) == (200, "degraded") and "have not expired" in health["reason"]
    assert "authstate_database_available 0.0" in metrics
    await log.look()
    await log.look()
    assert [event for event, _ in lines if event.startswith("database")] == ["database_lost"]

    place.database.elapsed = lambda: elapsed() + database_leases.WITHOUT_DATABASE
    with pytest.raises(OAuthRefusal):
        await place.ask(handle.secret)
    place.database.elapsed = elapsed

    proxy.restore()
    await until_lost(place, is_lost=False)
    await log.look()
    assert [event for event, _ in lines if event.startswith("database")] == ["database_lost", "database_back"]
    assert "authstate_database_available 1.0" in (await answers(place))[2]
    newer = await place.ask(handle.text(tokens.access_token))
    assert newer.access_token != tokens.access_token.reveal() and len(authority.sent) == 1
    await place.ask(bobs.handle.secret)


async def test_a_broker_without_database_and_open_engines_is_of_no_use(place: Machine, proxy: CuttingProxy) -> None:
    proxy.lose()
    await until_lost(place)
    status, health, _ = await answers(place)
    assert (status, health["status"]) == (503, "unavailable")
    with pytest.raises(StoreUnavailable):
        async with place.broker.accounts.engine("alice"):
            pass
