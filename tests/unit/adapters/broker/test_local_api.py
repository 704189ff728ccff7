"""The JSON API of the unix socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import httpx
import msgspec
import pytest
from support.broker_in_memory import BrokerInMemory

from authstate.adapters.broker import event_streams
from authstate.adapters.broker.event_streams import MOST_STREAMS, QUEUE_LENGTH, SseStreams
from authstate.adapters.broker.local_api import LocalApp, Place
from authstate.adapters.broker.metrics import BrokerMetrics
from authstate.adapters.testing.tokens import make_tokens
from authstate.adapters.vault.adoption import Adoption
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.engine.model.errors import Delivery, IssuerUnavailable
from authstate.engine.model.events import Warned

PLACE = Place("http://127.0.0.1:4517", "/run/broker.sock")


class Api:
    """The application, and a client of it."""

    def __init__(self, world: BrokerInMemory) -> None:
        self.metrics = BrokerMetrics(world.broker)
        self.streams = SseStreams(world.broker, self.metrics)
        self.app = LocalApp(world.broker, self.metrics, self.streams, PLACE)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")


@pytest.fixture
async def api(world: BrokerInMemory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(event_streams, "_LEASES_EVERY", 0.01)
    made = Api(world)
    async with made.client:
        yield made


@pytest.fixture
def client(api: Api) -> httpx.AsyncClient:
    return api.client


async def test_state_says_where_the_broker_is(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    await world.lease()
    answer = await client.get("/v1/state")
    state = answer.json()
    assert state["home"] == str(world.home)
    assert (state["url"], state["socket"]) == (PLACE.url, PLACE.socket)
    assert state["leases"] == {"active": 1, "expired": 0, "ended": 0}
    assert unquote(answer.headers["authstate-home"]) == str(world.home)
    assert answer.headers["cache-control"] == "no-store"


async def test_accounts_are_listed_without_an_engine(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    work = world.vault.add("work")
    empty = world.vault.add("empty")
    await world.store(ApiKey.parse("sk-canary-1234567890"), work.id)
    answer = await client.get("/v1/accounts")
    assert "sk-canary" not in answer.text
    found = {one["name"]: one for one in answer.json()["accounts"]}
    assert found["home"]["email"] == "person@example.com"
    assert found["home"]["isSelected"]
    assert found["home"]["accessTokenExpiresAt"] > 1e9
    assert found["home"]["state"] == "chatgpt"
    assert (found["work"]["state"], found["work"]["authMode"]) == ("api_key", "apikey")
    assert (found["empty"]["state"], found["empty"]["authMode"]) == ("logged_out", None)
    assert found["empty"]["storeFault"] is None
    assert found["empty"]["id"] == empty.id


async def test_an_account_is_refreshed_before_it_is_shown(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    await world.store(make_tokens(expires_in=-60))
    account = (await client.get("/v1/accounts/home")).json()
    assert account["state"] == "chatgpt"
    assert account["store"].endswith("auth.json")
    assert account["failure"] is None
    assert len(world.authority.sent) == 1


async def test_an_account_says_why_the_issuer_cannot_be_asked(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    await world.store(make_tokens(expires_in=-60))
    world.authority.fail_next(IssuerUnavailable("the issuer sleeps", delivery=Delivery.REFUSED), 9)
    assert (await client.get("/v1/accounts/home")).json()["issuerFault"] == "the issuer sleeps"
    token = await client.get("/v1/token")
    assert (token.status_code, token.json()["error"]["code"]) == (503, "unavailable")
    assert int(token.headers["retry-after"]) >= 1


async def test_a_dead_login_is_a_conflict(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    await world.store(make_tokens(expires_in=-60))
    world.authority.kill()
    token = await client.get("/v1/token")
    assert (token.status_code, token.json()["error"]["code"]) == (409, "refresh_dead")
    assert (await client.get("/v1/accounts/home")).json()["failure"]["reason"] == "revoked"


async def test_a_token_in_two_forms(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    answer = (await client.get("/v1/token")).json()
    stored = await world.vault.store("home").load()
    assert isinstance(stored, ChatgptTokens)
    assert answer["token"] == stored.access_token.reveal()
    assert answer["workspaceId"] == "org-1"
    assert answer["kind"] == "access_token"
    bearer = await client.get("/v1/token", params={"format": "bearer", "account": "home"})
    assert bearer.text == answer["token"] + "\n"
    assert bearer.headers["content-type"].startswith("text/plain")


async def test_a_token_of_another_account(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    work = world.vault.add("work")
    await world.store(ApiKey.parse("sk-work-key"), work.id)
    for name in ("work", work.id):
        answer = (await client.get("/v1/token", params={"account": name})).json()
        assert (answer["token"], answer["kind"], answer["expiresAt"]) == ("sk-work-key", "api_key", None)
    world.vault.add("empty")
    assert (await client.get("/v1/token", params={"account": "empty"})).json()["error"]["code"] == "not_signed_in"
    unknown = await client.get("/v1/token", params={"account": "nobody"})
    assert unknown.status_code == 404
    assert "'nobody'" in unknown.json()["error"]["message"]


async def test_a_token_that_lasts(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    await world.store(make_tokens(expires_in=900))
    old = (await client.get("/v1/token", params={"min_lifetime": 600})).json()
    assert world.authority.sent == []
    stored = await world.vault.store("home").load()
    assert isinstance(stored, ChatgptTokens)
    assert stored.last_refresh is not None
    fresh = (await client.get("/v1/token", params={"min_lifetime": 3000})).json()
    assert fresh == old, "it was refreshed just now, and the issuer's tokens are no longer"


async def test_a_long_lifetime_refreshes_once_a_minute(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    tokens = make_tokens(expires_in=900)
    await world.store(msgspec.structs.replace(tokens, last_refresh=1_700_000_000.0))
    for _ in range(3):
        answer = await client.get("/v1/token", params={"min_lifetime": 86_400})
        assert answer.json()["expiresAt"] > 0
    assert len(world.authority.sent) == 1


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "1e99"])
async def test_a_lifetime_that_is_no_time(client: httpx.AsyncClient, value: str) -> None:
    answer = await client.get("/v1/token", params={"min_lifetime": value})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


async def test_leases_are_made_listed_and_ended(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    made = await client.post("/v1/leases", json={"account": "home", "ttl": 60, "label": "box"})
    assert made.status_code == 201
    lease, handle = made.json()["lease"], made.json()["handle"]
    assert made.json()["refreshUrl"] == f"{PLACE.url}/oauth/token"
    assert (lease["label"], lease["state"]) == ("box", "active")
    assert lease["account"] == {"id": "home", "name": "home"}
    granted = await client.post("/oauth/token", data={"grant_type": "refresh_token", "refresh_token": handle})
    assert granted.status_code == 200
    listed = await client.get("/v1/leases")
    assert listed.json() == {"leases": [lease]}
    assert handle not in listed.text
    assert "digest" not in listed.text
    ended = await client.delete(f"/v1/leases/{lease['id']}")
    assert ended.json()["lease"]["state"] == "ended"
    refused = await client.post("/oauth/token", data={"grant_type": "refresh_token", "refresh_token": handle})
    assert refused.status_code == 400
    assert (await client.delete("/v1/leases/00000000")).status_code == 404
    assert world.authority.sent == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/v1/leases/{}"), ("GET", "/v1/accounts/{}"), ("GET", "/v1/token?account={}"), ("GET", "/v1/{}")],
)
@pytest.mark.parametrize("secret", ["a handle", "half a handle", "sk-canary-123456", "rt-canary_1234", "at-canary-12"])
async def test_no_error_repeats_what_may_be_a_secret(
    client: httpx.AsyncClient, world: BrokerInMemory, method: str, path: str, secret: str
) -> None:
    if "handle" in secret:
        handle = await world.lease()
        secret = handle[: len(handle) if secret == "a handle" else 40]
    answer = await client.request(method, path.format(secret))
    assert answer.status_code == 404
    assert secret[:12] not in answer.text.replace("authstate_lease_[", "")
    assert secret[-12:] not in answer.text
    if "leases" in path:
        assert answer.json()["error"]["message"] == "this is no id of a lease: `authstate lease list` shows the ids"


async def test_an_unknown_member_that_is_a_token_is_not_repeated(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/leases", json={"rt-canary-123456": 1})
    assert answer.status_code == 400
    assert "canary" not in answer.text


async def test_all_leases_end_but_that_of_the_home(client: httpx.AsyncClient, world: BrokerInMemory) -> None:
    home = await Adoption(world.vault, world.leases).adopt()
    assert home is not None
    await world.lease()
    await world.lease()
    ended = (await client.delete("/v1/leases")).json()["leases"]
    assert len(ended) == 2
    assert {lease.id for lease in world.leases.leases() if lease.state == "active"} == {home.id}


async def test_defaults_of_a_lease(client: httpx.AsyncClient) -> None:
    lease = (await client.post("/v1/leases")).json()["lease"]
    assert lease["expiresAt"] - lease["createdAt"] == 8 * 3600
    assert (await client.post("/v1/leases", json={"ttl": None})).json()["lease"]["expiresAt"] is None


@pytest.mark.parametrize("body", ["[]", "{", '{"ttl": "long"}', '{"time": 7}', '{"label": "x' + "x" * 70_000 + '"}'])
async def test_a_lease_that_is_no_request(client: httpx.AsyncClient, body: str) -> None:
    answer = await client.post("/v1/leases", content=body)
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("ttl", [0, -5, 1e12])
async def test_a_time_that_is_no_time(client: httpx.AsyncClient, ttl: float) -> None:
    answer = await client.post("/v1/leases", json={"ttl": ttl})
    assert answer.status_code == 400
    assert "10 years" in answer.json()["error"]["message"]


async def test_pages_in_a_browser_are_refused_here_too(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/token", headers={"Origin": "http://localhost"})).status_code == 403


# Events


class Reader:
    """A reader of the stream, at the level of ASGI. `paused` is a client that does not read."""

    def __init__(self, api: Api) -> None:
        self.events: asyncio.Queue[tuple[str, dict[str, Any]] | None] = asyncio.Queue()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.gone = asyncio.Event()
        self.status: int | None = None
        scope = {"type": "http", "method": "GET", "path": "/v1/events", "query_string": b"", "headers": []}
        self.task = asyncio.create_task(api.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.may_read.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        for block in message["body"].decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in fields:
                self.events.put_nowait((fields["event"], json.loads(fields["data"])))
            elif "retry" in fields:
                self.events.put_nowait(("open", {}))
        if not message.get("more_body"):
            self.events.put_nowait(None)

    async def next(self) -> tuple[str, dict[str, Any]] | None:
        async with asyncio.timeout(60):
            return await self.events.get()


async def test_events_tell_what_happens(api: Api, world: BrokerInMemory) -> None:
    reader = Reader(api)
    assert await reader.next() == ("open", {})
    tokens = await world.store(make_tokens(expires_in=-60))
    assert isinstance(tokens, ChatgptTokens)
    await api.client.get("/v1/token")
    name, members = await reader.next() or ("", {})
    assert (name, members["accountId"], members["state"]) == ("stateChanged", "home", "chatgpt")
    name, members = await reader.next() or ("", {})
    assert (name, members["accountId"]) == ("refreshed", "home")
    assert members["expiresAt"] > 1e9
    world.broker.events.emit("home", Warned("clock", "the clock is wrong"))
    assert await reader.next() == ("warning", {"accountId": "home", "code": "clock", "message": "the clock is wrong"})
    assert reader.status == 200
    reader.gone.set()
    assert await reader.next() is None
    await reader.task


async def test_events_tell_when_a_lease_is_over(api: Api, world: BrokerInMemory) -> None:
    lease = (await api.client.post("/v1/leases", json={})).json()["lease"]
    reader = Reader(api)
    assert await reader.next() == ("open", {})
    world.leases.end(lease["id"])
    assert await reader.next() == ("leaseEnded", {"id": lease["id"], "accountId": "home", "state": "ended"})
    reader.gone.set()
    await reader.task


async def test_a_slow_reader_is_dropped(api: Api, world: BrokerInMemory) -> None:
    slow, quick = Reader(api), Reader(api)
    assert await slow.next() == await quick.next() == ("open", {})
    slow.may_read.clear()
    for number in range(QUEUE_LENGTH + 10):
        world.broker.events.emit("home", Warned("number", str(number)))
        found = await quick.next()
        assert found is not None
        assert found[1]["message"] == str(number)
    slow.may_read.set()
    received = []
    while (event := await slow.next()) is not None:
        received.append(event)
    assert len(received) <= 1, "nothing is kept for it"
    await slow.task
    text = (await api.client.get("/metrics")).text
    assert "authstate_dropped_event_streams_total 1.0" in text
    assert "authstate_event_streams 1.0" in text
    quick.gone.set()
    await quick.task


async def test_streams_are_few_and_end_with_the_broker(api: Api) -> None:
    readers = [Reader(api) for _ in range(MOST_STREAMS)]
    for reader in readers:
        assert await reader.next() == ("open", {})
    refused = await api.client.get("/v1/events")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_streams")
    api.streams.close()
    for reader in readers:
        assert await reader.next() is None
        await reader.task
    assert not api.streams.is_full
