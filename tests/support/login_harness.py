"""Runs browser logins in tests: an engine, real sockets on loopback, and a client in the place of the browser.

The client sends exactly the bytes that the test chooses. The issuer runs in a process of its own.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import h11

from authstate.adapters.oauth.browser_login import BrowserLogin, start_browser_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.engine import AuthEngine
from authstate.engine.model.events import Event, LoginCompleted
from authstate.testing import FakeAuthority, LoopbackIssuer, ManualClock, MemoryStore, make_tokens


class Answer:
    """An HTTP answer that the client received."""

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
        """The main heading of the page; empty if the answer is not a page."""
        return self.text.partition("<h1>")[2].partition("</h1>")[0]


def read(data: bytes, method: str = "GET") -> Answer:
    """Parse bytes that contain exactly one answer to a request of this method."""
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
    """Send bytes to a port. Returns what the server sends until it closes the connection, at most a minute later."""
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(data)
    received = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return received


async def get(
    port: int, target: str, *headers: str, method: str = "GET", host: str | None = None, address: str = "127.0.0.1"
) -> Answer:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host or f'localhost:{port}'}", *headers, "", ""]
    return read(await send(port, "\r\n".join(lines).encode(), address), method)


def asked(login: BrowserLogin) -> dict[str, str]:
    """The parameters of the address that the user opens."""
    return {name: values[0] for name, values in parse_qs(urlsplit(login.auth_url).query).items()}


def target(login: BrowserLogin, **parameters: str) -> str:
    """The path of the redirect from the issuer to the loopback server."""
    return "/auth/callback?" + urlencode({"state": asked(login)["state"], **parameters})


class LoginHarness:
    """An engine for browser logins, with the events that it sent. A user is signed in already: `old`."""

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
        """Check that the old login is still used and stored. Raises AssertionError."""
        assert self.engine.session.credentials is self.old
        assert self.store.credentials is self.old


async def until(holds: Callable[[], bool]) -> None:
    """Let the event loop run until a condition holds. Raises TimeoutError after a minute."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - no event is set when it becomes true
            await asyncio.sleep(0.001)


def open_files() -> int:
    """The number of open descriptors of this process: files, sockets and pipes. Not on Windows."""
    return len(os.listdir("/dev/fd"))


async def until_exchanging(login: BrowserLogin) -> None:
    """Wait until the browser was redirected back and the code is being exchanged."""
    await until(lambda: login.attempt.state != "pending")


def agree(login: BrowserLogin, loopback: LoopbackIssuer, code: str = "ac_agreed", **grant: str) -> str:
    """Approve the login at the issuer. Returns the path of its redirect."""
    bound = {name: asked(login)[name] for name in ("code_challenge", "redirect_uri")}
    loopback.register_code(code, **{**bound, **grant})
    return target(login, code=code)


async def follow_redirect(login: BrowserLogin, address: str) -> Answer:
    """Follow the issuer's redirect. Returns the page `/done`, whose address contains no code."""
    answer = await get(login.port, address)
    assert (answer.status, answer.location) == (303, "/done")
    return await get(login.port, "/done")
