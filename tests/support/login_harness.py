"""A desk where people sign in with a browser: an engine, real sockets on loopback, and an issuer in a process.

The browser is as little of one as can be: what it sends is the test's to choose, byte by byte.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import h11

from authstate.adapters.oauth.browser_login import BrowserLogin, start_browser_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.testing import FakeAuthority, LoopbackIssuer, ManualClock, MemoryStore, make_tokens
from authstate.engine.engine import AuthEngine
from authstate.engine.model.events import Event, LoginCompleted


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

    @property
    def title(self) -> str:
        """What the page says first; empty when it is no page."""
        return self.text.partition("<h1>")[2].partition("</h1>")[0]


def read(data: bytes, method: str = "GET") -> Answer:
    """The one answer in these bytes."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    http.send(h11.EndOfMessage())
    http.receive_data(data)
    http.receive_data(b"")
    response, body = http.next_event(), b""
    assert isinstance(response, h11.Response)
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    return Answer(response.status_code, dict(response.headers), body)


async def send(port: int, data: bytes, address: str = "127.0.0.1") -> bytes:
    """Everything that the server answers to these bytes, until it ends the connection."""
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(data)
    received = await asyncio.wait_for(reader.read(), 15)
    writer.close()
    return received


async def get(
    port: int, target: str, *headers: str, method: str = "GET", host: str | None = None, address: str = "127.0.0.1"
) -> Answer:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host or f'localhost:{port}'}", *headers, "", ""]
    return read(await send(port, "\r\n".join(lines).encode(), address), method)


def asked(login: BrowserLogin) -> dict[str, str]:
    """The parameters of the page that the person opens."""
    return {name: values[0] for name, values in parse_qs(urlsplit(login.auth_url).query).items()}


def target(login: BrowserLogin, **parameters: str) -> str:
    """The address that the issuer sends the browser back to."""
    return "/auth/callback?" + urlencode({"state": asked(login)["state"], **parameters})


class LoginHarness:
    """An engine where people sign in with a browser, and the events it told. Somebody is signed in already."""

    def __init__(
        self, issuer: Issuer, *, linger: float = 5.0, store: MemoryStore | None = None, **settings: Any
    ) -> None:
        self.issuer = issuer
        self.linger = linger
        self.clock = ManualClock()
        self.old = make_tokens(email="old@example.com", now=self.clock.now())
        self.store = MemoryStore(self.old) if store is None else store
        self.authority = FakeAuthority(self.old, clock=self.clock)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock, **settings)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)

    async def start(self, **options: Any) -> BrowserLogin:
        return await start_browser_login(
            self.engine, self.issuer, **{"ports": (0,), "clock": self.clock, "linger": self.linger, **options}
        )

    @property
    def outcomes(self) -> list[LoginCompleted]:
        return [event for event in self.events if isinstance(event, LoginCompleted)]

    def assert_unchanged(self) -> None:
        """Who was signed in is signed in still, here and in the store. Raises AssertionError."""
        assert self.engine.session.credentials is self.old
        assert self.store.credentials is self.old


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until this holds, 10 seconds at most."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.001)


def open_files() -> int:
    """How many descriptors this process has: files, sockets, pipes. Not on Windows."""
    return len(os.listdir("/dev/fd"))


async def until_exchanging(login: BrowserLogin) -> None:
    """The browser has come back, and the issuer is asked."""
    await until(lambda: login.attempt.state != "pending")


def agree(login: BrowserLogin, loopback: LoopbackIssuer, code: str = "ac_agreed", **grant: str) -> str:
    """Agree at the issuer. Returns the address that it sends the browser back to."""
    bound = {name: asked(login)[name] for name in ("code_challenge", "redirect_uri")}
    loopback.register_code(code, **{**bound, **grant})
    return target(login, code=code)


async def come_back(login: BrowserLogin, address: str) -> Answer:
    """What the browser does with that address, and the page that it is sent on to, whose address says nothing."""
    answer = await get(login.port, address)
    assert (answer.status, answer.location) == (303, "/done")
    return await get(login.port, "/done")
