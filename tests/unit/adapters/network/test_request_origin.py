"""Real redirects on loopback, with both kinds of httpx client: credentials reach only the origin they are meant for."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from support.http_libraries import LIBRARIES, PortalEngine, each_library
from support.network_servers import Authority, TunnellingProxy, serving

from authstate.adapters.httpx_auth import EngineAuth, SyncEngineAuth
from authstate.adapters.network.request_origin import bind_to_origin, bind_to_origin_sync
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
REFUSED = OK.replace(b"200 OK", b"401 Unauthorized")
BOTH = {"authorization": "Bearer token-1", "chatgpt-account-id": "org-1"}
NEITHER: dict[str, str] = {}
Fetch = Callable[..., Any]


class Engine:
    """An engine that counts recoveries."""

    def __init__(self) -> None:
        self.recoveries = 0

    def fresh_authorization(self) -> Authorization | None:
        return None

    async def authorization(self) -> Authorization:
        return Authorization(Secret(f"token-{self.recoveries + 1}"), "org-1", self.recoveries + 1)

    async def recover(self, refused: Authorization) -> Authorization:
        self.recoveries += 1
        return await self.authorization()


class Site:
    """Answers by the target of a request, and notes which credentials came with each."""

    def __init__(self, answers: Mapping[str, bytes] | None = None) -> None:
        self.answers = dict(answers or {})
        self.seen: list[tuple[str, dict[str, str]]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.answer((await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer)

    async def answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note a request and answer it."""
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        target = first.split(" ")[1]
        self.seen.append((target, {name: value for name, value in headers.items() if name in BOTH}))
        writer.write(self.answers.get(target, OK))
        await writer.drain()


class Proxy(Site):
    """Answers what it is asked to forward by itself, and lets a CONNECT through to one port."""

    def __init__(self, port: int, answers: Mapping[str, bytes]) -> None:
        super().__init__(answers)
        self._tunnel = TunnellingProxy(port)

    async def answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if head.startswith("CONNECT "):
            assert "token" not in head and "org-1" not in head
            await self._tunnel.tunnel(reader, writer)
        else:
            await super().answer(head, reader, writer)


@pytest.fixture(autouse=True)
def plain_http_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the proxies of this file: a test has no port 443."""
    monkeypatch.setenv("AUTHSTATE_ALLOW_HTTP_HOSTS", "backend.example")


def redirect(location: str) -> bytes:
    return OK.replace(b"200 OK", b"307 Temporary Redirect\r\nLocation: " + location.encode())


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=LIBRARIES, ids=lambda library: str(library.__name__))
def fetch(request: pytest.FixtureRequest, kind: str) -> Fetch:
    """GETs a URL with an engine's authorization and follows redirects; the status."""
    library = request.param

    async def with_async(engine: Engine, url: str, trace: bool = False, **options: Any) -> int:
        told: list[str] = []

        async def note(event: str, info: Any) -> None:
            told.append(event)

        extensions = {"trace": note} if trace else {}
        async with library.AsyncClient(auth=EngineAuth(engine), follow_redirects=True, timeout=60, **options) as client:
            status = int((await client.get(url, extensions=extensions)).status_code)
        assert bool(told) is trace
        return status

    def with_sync(engine: Engine, url: str, trace: bool = False, **options: Any) -> int:
        told: list[str] = []
        extensions = {"trace": lambda event, info: told.append(event)} if trace else {}
        with start_blocking_portal() as portal:
            auth = SyncEngineAuth(PortalEngine(engine, portal))
            with library.Client(auth=auth, follow_redirects=True, timeout=60, **options) as client:
                status = int(client.get(url, extensions=extensions).status_code)
        assert bool(told) is trace
        return status

    async def in_a_thread(*arguments: Any, **options: Any) -> int:
        return await asyncio.to_thread(with_sync, *arguments, **options)

    return with_async if kind == "async" else in_a_thread


async def test_another_origin_gets_nothing(fetch: Fetch) -> None:
    ours, other = Site(), Site()
    async with serving(ours) as port, serving(other) as other_port:
        ours.answers["/"] = redirect(f"http://localhost:{other_port}/there")
        assert await fetch(Engine(), f"http://localhost:{port}/", trace=True) == 200
    assert (ours.seen, other.seen) == ([("/", BOTH)], [("/there", NEITHER)])


async def test_another_path_of_the_origin_gets_both(fetch: Fetch) -> None:
    ours = Site({"/": redirect("/there")})
    async with serving(ours) as port:
        assert await fetch(Engine(), f"http://127.0.0.1:{port}/") == 200
    assert ours.seen == [("/", BOTH), ("/there", BOTH)]


async def test_a_401_after_a_way_round_over_another_origin_costs_no_refresh(fetch: Fetch) -> None:
    ours, other, engine = Site({"/back": REFUSED}), Site(), Engine()
    async with serving(ours) as port, serving(other) as other_port:
        ours.answers["/"] = redirect(f"http://localhost:{other_port}/there")
        other.answers["/there"] = redirect(f"http://localhost:{port}/back")
        assert await fetch(engine, f"http://localhost:{port}/") == 401
    assert [target for target, _ in ours.seen] == ["/", "/back"]
    assert ours.seen[1][1].get("authorization") is None
    assert engine.recoveries == 0


@pytest.mark.parametrize(
    ("location", "seen"), [("/there", BOTH), ("http://elsewhere.example/there", NEITHER)], ids=["same", "other"]
)
async def test_a_proxy_that_forwards(location: str, seen: dict[str, str], fetch: Fetch) -> None:
    proxy = Proxy(0, {"http://backend.example/": redirect(location)})
    async with serving(proxy) as port:
        assert await fetch(Engine(), "http://backend.example/", proxy=f"http://127.0.0.1:{port}") == 200
    assert [headers for _, headers in proxy.seen] == [BOTH, seen]


async def test_https_on_the_same_host_is_another_origin(fetch: Fetch, tmp_path: Path) -> None:
    """Where httpx leaves `Authorization` on."""
    authority, site = Authority(tmp_path), Site()
    trusting = ssl.create_default_context(cafile=str(authority.file))
    async with serving(site, authority.server("backend.example")) as tls_port:
        proxy = Proxy(tls_port, {"http://backend.example/": redirect("https://backend.example/there")})
        async with serving(proxy) as port:
            options = {"proxy": f"http://127.0.0.1:{port}", "verify": trusting}
            assert await fetch(Engine(), "http://backend.example/", **options) == 200
            assert await fetch(Engine(), "https://backend.example/again", **options) == 200
    assert proxy.seen == [("http://backend.example/", BOTH)]
    assert site.seen == [("/there", NEITHER), ("/again", BOTH)]


@each_library
def test_a_request_may_be_sent_any_number_of_times(library: Any) -> None:
    """Each time with one trace, that of the caller behind it."""
    told: list[str] = []
    for bind_it in (bind_to_origin, bind_to_origin_sync):
        request = library.Request("GET", "https://backend.example/", extensions={"trace": lambda *_: told.append("")})
        for _ in range(5000):
            bind_it(request)
        trace = request.extensions["trace"]
        assert trace.callers_trace("event", {}) is None
    assert told == ["", ""]


@pytest.mark.parametrize(
    ("target", "stays"),
    [(b"*", True), (b"/x", True), (b"https://backend.example/y", True), (b"https://\xff/", False), (b"x", False)],
)
def test_what_is_asked_for_decides_where_a_request_goes(target: bytes, stays: bool) -> None:
    request = httpx.Request("GET", "https://backend.example/")
    bind_to_origin_sync(request)
    sent = httpcore.Request(
        "GET",
        httpcore.URL(scheme=b"https", host=b"backend.example", port=None, target=target),
        headers={"Authorization": "Bearer canary", "ChatGPT-Account-Id": "org-1", "x": "y"},
    )
    request.extensions["trace"]("http11.send_request_headers.started", {"request": sent})
    assert [name for name, _ in sent.headers] == [b"Authorization", b"ChatGPT-Account-Id", b"x"][0 if stays else 2 :]
