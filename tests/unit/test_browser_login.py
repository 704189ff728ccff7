"""The browser login from the URL to the stored credentials, over real sockets; the issuer is a process on loopback."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import h11
import pytest

from authstate.adapters.oauth.browser_login import BrowserLogin, start_browser_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.testing import FakeAuthority, LoopbackIssuer, ManualClock, MemoryStore, make_tokens
from authstate.engine.core import AuthEngine
from authstate.engine.credentials import ChatgptTokens
from authstate.engine.events import Event, LoginCompleted

SECURITY = {
    b"cache-control": b"no-store",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"connection": b"close",
}


class Answer:
    """What a browser got."""

    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.text = body.decode()

    @property
    def location(self) -> str:
        return self.headers.get(b"location", b"").decode()


def read(data: bytes) -> Answer:
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    http.send(h11.EndOfMessage())
    http.receive_data(data)
    http.receive_data(b"")
    response, body = http.next_event(), b""
    assert isinstance(response, h11.Response)
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    return Answer(response.status_code, dict(response.headers), body)


async def send(port: int, data: bytes) -> bytes:
    """Everything that the server answers to these bytes, until it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    received = await asyncio.wait_for(reader.read(), 15)
    writer.close()
    return received


async def get(port: int, target: str, *headers: str, method: str = "GET", host: str | None = None) -> Answer:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host or f'localhost:{port}'}", *headers, "", ""]
    return read(await send(port, "\r\n".join(lines).encode()))


def target(login: BrowserLogin, **parameters: str) -> str:
    """The address that the issuer sends the browser back to."""
    state = parse_qs(urlsplit(login.auth_url).query)["state"][0]
    return "/auth/callback?" + urlencode({"state": state, **parameters})


class Desk:
    """An engine where people sign in with a browser, and the events it told."""

    def __init__(self, issuer: Issuer, *, linger: float = 5.0, **settings: object) -> None:
        self.issuer = issuer
        self.linger = linger
        self.clock = ManualClock()
        self.old = make_tokens(email="old@example.com")
        self.store = MemoryStore(self.old)
        self.authority = FakeAuthority(self.old, clock=self.clock)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock, **settings)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)

    async def start(self, **options: object) -> BrowserLogin:
        return await start_browser_login(
            self.engine, self.issuer, **{"ports": (0,), "clock": self.clock, "linger": self.linger, **options}
        )

    @property
    def outcomes(self) -> list[LoginCompleted]:
        return [event for event in self.events if isinstance(event, LoginCompleted)]


@pytest.fixture(scope="module")
def running() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as issuer:
        yield issuer


@pytest.fixture
def loopback(running: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch) -> LoopbackIssuer:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    running.behave("exchange")
    return running


@pytest.fixture
async def desk(loopback: LoopbackIssuer) -> AsyncIterator[Desk]:
    made = Desk(Issuer(loopback.url))
    async with made.engine:
        yield made


async def come_back(login: BrowserLogin, loopback: LoopbackIssuer, **grant: str) -> Answer:
    """What the browser does after the person agreed: the callback, and the page it is sent on to."""
    loopback.register_code("ac_agreed", **grant)
    answer = await get(login.port, target(login, code="ac_agreed"))
    assert (answer.status, answer.location) == (303, "/done")
    return await get(login.port, "/done")


async def test_a_login_that_succeeds(desk: Desk, loopback: LoopbackIssuer) -> None:
    login = await desk.start()
    query = {name: values[0] for name, values in parse_qs(urlsplit(login.auth_url).query).items()}
    assert login.auth_url.startswith(f"{loopback.url}/oauth/authorize?response_type=code&client_id=app_")
    assert query["redirect_uri"] == f"http://localhost:{login.port}/auth/callback"
    assert query["code_challenge_method"] == "S256"
    assert "allowed_workspace_id" not in query
    page = await come_back(
        login,
        loopback,
        code_challenge=query["code_challenge"],
        redirect_uri=query["redirect_uri"],
        email="new@x.example",
    )
    assert (page.status, page.text.count("You are signed in</h1>")) == (200, 1)
    await asyncio.wait_for(login.closed(), 5)
    assert isinstance(desk.store.credentials, ChatgptTokens)
    assert desk.store.credentials.account.email == "new@x.example"
    assert [event.success for event in desk.outcomes] == [True]
    await desk.clock.settle()
    assert desk.authority.revoked == [desk.old.refresh_token.reveal()]
    with pytest.raises(OSError):
        await get(login.port, "/done")
