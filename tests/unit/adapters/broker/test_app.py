"""The ASGI application: the OAuth endpoints, health and metrics, and what it refuses."""

import asyncio
import json
from collections.abc import AsyncIterator
from time import time
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from support.broker_in_memory import BrokerInMemory

from authstate.adapters.broker import app as app_module
from authstate.adapters.broker.app import create_broker_app
from authstate.adapters.broker.oauth_messages import LARGEST_BODY
from authstate.adapters.broker.token_grants import GRANTS
from authstate.engine.model.credentials import ApiKey, ChatgptTokens

HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:4517")


@pytest.fixture
async def client(world: BrokerInMemory) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_broker_app(world.broker, hosts=HOSTS)) as made:
        yield made


async def refresh(client: httpx.AsyncClient, handle: str, path: str = "/oauth/token") -> httpx.Response:
    return await client.post(path, data={"grant_type": "refresh_token", "refresh_token": handle})


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_handle_yields_an_access_token(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    handle = await world.lease()
    begun = time()
    answer = await refresh(client, handle)
    assert answer.status_code == 200
    members = answer.json()
    assert members["refresh_token"].startswith(handle)
    assert members["access_token"].count(".") == 2
    stored = await world.vault.store("home").load()
    assert isinstance(stored, ChatgptTokens) and stored.expires_at is not None
    assert int(stored.expires_at - time()) <= members["expires_in"] <= int(stored.expires_at - begun)
    assert world.authority.sent == []


async def test_codex_gets_json_for_json(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    sent = {"client_id": "app", "grant_type": "refresh_token", "refresh_token": await world.lease()}
    assert (await client.post("/oauth/token", json=sent)).status_code == 200
    refused = await client.post("/oauth/token", json={**sent, "refresh_token": "rt-unknown"})
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "refresh_token_invalidated"


async def test_many_clients_whose_token_was_refused_cost_one_refresh(
    client: httpx.AsyncClient, world: BrokerInMemory
) -> None:
    first = [await refresh(client, await world.lease()) for _ in range(32)]
    second = await asyncio.gather(*(refresh(client, answer.json()["refresh_token"]) for answer in first))
    assert len(world.authority.sent) == 1
    assert len({answer.json()["access_token"] for answer in second}) == 1
    assert second[0].json()["access_token"] != first[0].json()["access_token"]


async def test_a_client_that_asks_too_often_is_told_when_to_ask_again(
    client: httpx.AsyncClient, world: BrokerInMemory
) -> None:
    handle = await world.lease()
    asked = 0
    while (answer := await refresh(client, handle)).status_code == 200:
        asked += 1
        assert asked < 100 * GRANTS.burst
    assert asked >= GRANTS.burst
    assert (answer.status_code, answer.json()["error"]) == (429, "slow_down")
    assert answer.headers["retry-after"] == "1"
    assert (await refresh(client, await world.lease())).status_code == 200, "another lease"


async def test_a_revoked_handle_yields_nothing(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    handle = await world.lease()
    assert (await client.post("/oauth/revoke", data={"token": handle})).status_code == 200
    refused = await refresh(client, handle)
    assert refused.status_code == 400
    assert refused.json()["error"] == "invalid_grant"
    assert "was ended" in refused.json()["error_description"]
    assert (await client.post("/oauth/revoke", data={"token": handle})).status_code == 200


@pytest.mark.parametrize("form", ["a length", "chunks"])
async def test_a_handle_of_ten_megabytes_is_refused(client: httpx.AsyncClient, form: str) -> None:
    body = b"grant_type=refresh_token&refresh_token=" + b"x" * 10_000_000

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    content = body if form == "a length" else chunks()
    answer = await client.post("/oauth/token", content=content, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"] == "invalid_request"
    assert str(LARGEST_BODY) in answer.json()["error_description"]


async def test_a_body_that_is_announced_as_huge_is_not_read(world: BrokerInMemory) -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is read")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", b"99999999999"), (b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/oauth/token", "headers": headers}
    await create_broker_app(world.broker)(scope, receive, send)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_body_that_does_not_come_is_not_waited_for(
    world: BrokerInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "_BODY_WITHIN", 0.01)

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/oauth/token", "headers": []}
    await create_broker_app(world.broker)(scope, receive, send)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["code"] == "invalid_request"


async def test_a_client_that_goes_away_is_answered_nothing(world: BrokerInMemory) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("nobody reads it")

    scope = {"type": "http", "method": "POST", "path": "/oauth/token", "headers": []}
    await create_broker_app(world.broker)(scope, receive, send)


async def test_only_post_is_served(client: httpx.AsyncClient) -> None:
    for path in ("/oauth/token", "/oauth/revoke"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert answer.json()["error"] == {"code": "invalid_request", "message": "this endpoint only takes POST"}
    answer = await client.post("/healthz")
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_what_is_not_there_is_json_and_repeats_no_path(client: httpx.AsyncClient) -> None:
    for path, said in (("/rt-canary-1234", "no such endpoint"), ("/v1/leases/rt-canary-1234", "at its unix socket")):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        assert said in answer.json()["error"]["message"]
        assert "canary" not in answer.text
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        (b"host.docker.internal:4517", "'host.docker.internal:4517'"),
        (b"evil\x07.x" + b".x" * 5000, "'evil\ufffd" + ".x" * 29 + ".'"),
        (b"sk-canary-123456", "'[redacted]'"),
    ],
)
async def test_another_host_is_named_and_how_to_allow_it(client: httpx.AsyncClient, host: bytes, shown: str) -> None:
    json_answer = await client.get("/healthz", headers={b"Host": host})
    form_answer = await client.post("/oauth/token", data={"grant_type": "refresh_token"}, headers={b"Host": host})
    assert json_answer.json()["error"]["code"] == "misdirected_request"
    assert form_answer.json()["error"] == "invalid_request"
    for answer, said in (
        (json_answer, json_answer.json()["error"]["message"]),
        (form_answer, form_answer.json()["error_description"]),
    ):
        assert answer.status_code == 421
        assert f"not reached as {shown}" in said
        assert "--allow-host NAME" in said


async def test_a_request_without_a_host(world: BrokerInMemory) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/healthz", "headers": []}
    await create_broker_app(world.broker, hosts=HOSTS)(scope, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 421
    assert "has no headers `Host`" in json.loads(sent[1]["body"])["error"]["message"]


async def test_an_endpoint_that_fails_is_json(world: BrokerInMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.vault, "accounts", broken)
    transport = httpx.ASGITransport(create_broker_app(world.broker), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "server_error")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:4517"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "localhost:9999"}, 200),  # a tunnel
        ({"Host": "[::1]:4517"}, 200),
        ({"Origin": "http://localhost:4517"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/oauth/token"])
async def test_pages_in_a_browser_are_refused(
    client: httpx.AsyncClient, world: BrokerInMemory, headers: dict[str, str], status: int, path: str
) -> None:
    method, data = ("GET", None)
    if path == "/oauth/token":
        method, data = "POST", {"grant_type": "refresh_token", "refresh_token": await world.lease()}
    assert (await client.request(method, path, headers=headers, data=data)).status_code == status


async def test_it_has_no_json_api(client: httpx.AsyncClient) -> None:
    for path in ("/v1/state", "/v1/token", "/v1/accounts", "/v1/leases", "/v1/events"):
        assert (await client.get(path)).status_code == 404
    assert (await client.post("/v1/leases", json={})).status_code == 404


async def test_it_can_be_mounted_below_a_path(world: BrokerInMemory) -> None:
    async def front(request: Any) -> PlainTextResponse:
        return PlainTextResponse("the service")

    app = create_broker_app(world.broker)
    service = Starlette(routes=[Mount("/auth/state", app), Route("/", front)])
    async with client_of(service) as client:
        assert (await client.get("/")).text == "the service"
        assert (await refresh(client, await world.lease(), "/auth/state/oauth/token")).status_code == 200
        assert (await client.get("/auth/state/healthz")).json()["status"] == "ok"
        assert (await client.get("/auth/state/metrics")).status_code == 200
        assert (await client.post("/oauth/token")).status_code == 404


async def test_health_tells_when_the_vault_cannot_be_read(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    assert (await client.get("/healthz")).json()["status"] == "ok"
    (world.home / "authstate").mkdir(exist_ok=True)
    (world.home / "authstate" / "accounts.json").write_text("{nonsense")
    answer = await client.get("/healthz")
    assert answer.status_code == 503
    assert "accounts.json" in answer.json()["reason"]
    found = samples((await client.get("/metrics")).text)
    assert found["authstate_vault_readable",] == 0


async def test_metrics_count_what_happens(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    handle = await world.lease()
    seen = (await refresh(client, handle)).json()["refresh_token"]
    await refresh(client, seen)
    await refresh(client, "rt-unknown")
    await client.post("/oauth/revoke", data={"token": handle})
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    assert found["authstate_grants_total", "granted"] == 2
    assert found["authstate_grants_total", "invalid_grant"] == 1
    assert found["authstate_revocations_total", "done"] == 1
    assert found["authstate_refreshes_total", "home", "done"] == 1
    assert found["authstate_refresh_seconds_count", "refreshed"] == 1
    assert found["authstate_refresh_retries_total",] == 0
    assert found["authstate_leases", "home", "ended"] == 1
    assert found["authstate_grant_seconds_count",] == 3
    assert found["authstate_accounts",] == 1
    assert found["authstate_pool_open",] == 1
    assert ("authstate_pool_evicted_total",) in found
    assert "person@example.com" not in answer.text
    assert "org-1" not in answer.text
    opened = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text")


async def test_a_bug_shows_no_token(
    client: httpx.AsyncClient, world: BrokerInMemory, faults: list[dict[str, Any]]
) -> None:
    async def broken(presented: object) -> None:
        raise ZeroDivisionError(presented)

    world.broker.grants.refresh = broken  # type: ignore[assignment]
    answer = await refresh(client, "rt-canary")
    assert answer.status_code == 500
    assert answer.json()["error"] == "server_error"
    [fault] = faults
    assert "ZeroDivisionError" in fault["message"]
    assert "rt-canary" not in repr(fault)
    assert "exception" not in fault


async def test_an_api_key_is_not_leased(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    handle = await world.lease()
    await world.store(ApiKey.parse("sk-other"))
    answer = await refresh(client, handle)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"
