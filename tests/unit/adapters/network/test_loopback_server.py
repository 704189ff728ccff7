"""The loopback server and those who abuse it: what it refuses, what it bounds, and that the browser still gets through.

Everything goes over real sockets. The limits are small where time would have to pass.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from support.login_harness import Answer, get, open_files, read, send, until

from authstate.adapters.network.loopback_server import Limits, LoopbackServer, Request, Response
from authstate.adapters.oauth.redirect.port import open_port

PROTECTION = {
    b"cache-control": b"no-store",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"connection": b"close",
    b"server": b"authstate",
}


class Serving:
    """A server whose handler answers with the path, and keeps what it was asked."""

    def __init__(self, server_limits: Limits | None = None) -> None:
        self.limits = server_limits
        self.asked: list[Request] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.faults: list[dict[str, Any]] = []

    async def start(self) -> "Serving":
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.faults.append(context))
        self.listener = await open_port((0,))
        self.server = LoopbackServer(self.listener, self.handle, self.limits)
        await self.server.start()
        self.port = self.server.port
        return self

    async def handle(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path == "/fault":
            raise ZeroDivisionError("state=secret")
        await self.may_answer.wait()
        return Response(200, request.path.encode(), {"Content-Type": "text/plain"})

    async def stop(self) -> None:
        await self.server.aclose()
        assert self.server._tasks == set() and self.server._idle == {}


@pytest.fixture
async def serve() -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def start(limits: Limits | None = None) -> Serving:
            serving = await Serving(limits).start()
            stack.push_async_callback(serving.stop)
            return serving

        yield start


async def still_serves(serving: Serving) -> None:
    serving.server._limits = Limits()  # those of the test may be too short for a client on a busy machine
    answer = await get(serving.port, "/still")
    assert (answer.status, answer.body) == (200, b"/still")
    assert serving.faults == []


async def test_every_answer_is_protected(serve: Any) -> None:
    serving = await serve()
    requests: list[Any] = [
        get(serving.port, "/a"),
        get(serving.port, "/a", method="POST"),
        get(serving.port, "/a", host="evil.example"),
        get(serving.port, "/a", "Origin: https://evil.example"),
        get(serving.port, "/fault"),
        send(serving.port, b"nonsense\r\n\r\n"),
    ]
    statuses = []
    for request in requests:
        answer = await request
        answer = answer if isinstance(answer, Answer) else read(answer)
        statuses.append(answer.status)
        assert {name: answer.headers.get(name) for name in PROTECTION} == PROTECTION
        assert answer.headers[b"content-security-policy"].startswith(b"default-src 'none'; base-uri 'none';")
        assert b"access-control-allow-origin" not in answer.headers
        assert b"secret" not in answer.body
    assert statuses == [200, 405, 421, 403, 500, 400]


async def test_only_loopback_is_bound(serve: Any) -> None:
    serving = await serve()
    assert serving.listener.getsockname() == ("127.0.0.1", serving.port)
    assert serving.listener.family is socket.AF_INET


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "evil.example",
        "localhost",
        "localhost:1",
        "127.0.0.1",
        "localhost.evil.example:{port}",
        "localhost:{port}.evil.example",
        "127.0.0.2:{port}",
        "0.0.0.0:{port}",
        "[::1]:{port}",
        "localhost:{port}, evil.example",
        "localhost:{port}@evil.example",
        "localhost.:{port}",
    ],
)
async def test_a_name_that_is_not_ours_is_misdirected(serve: Any, host: str) -> None:
    serving = await serve()
    assert (await get(serving.port, "/", host=host.format(port=serving.port))).status == 421
    assert serving.asked == []
    await still_serves(serving)


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "LocalHost:{port}"])
async def test_the_names_that_are_ours(serve: Any, host: str) -> None:
    serving = await serve()
    assert (await get(serving.port, "/", host=host.format(port=serving.port))).status == 200


@pytest.mark.parametrize("hosts", ["", "Host: localhost:{port}\r\nHost: evil.example\r\n", "Host: \r\n"])
async def test_no_host_and_two_hosts_are_refused(serve: Any, hosts: str) -> None:
    serving = await serve()
    head = f"GET / HTTP/1.1\r\n{hosts.format(port=serving.port)}\r\n"
    assert read(await send(serving.port, head.encode())).status in (400, 421)
    assert serving.asked == []


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("http://localhost:1", 403),
        ("http://localhost", 403),
        ("https://localhost:{port}", 403),
        ("null", 403),
        ("", 403),
        ("http://localhost:{port}", 200),
        ("http://127.0.0.1:{port}", 200),
    ],
)
async def test_a_request_with_a_foreign_origin_is_refused(serve: Any, origin: str, status: int) -> None:
    serving = await serve()
    assert (await get(serving.port, "/", f"Origin: {origin.format(port=serving.port)}")).status == status
    assert len(serving.asked) == (status == 200)


@pytest.mark.parametrize(
    ("sites", "foreign"), [([], False), (["none"], False), (["same-origin"], False), (["cross-site"], True)]
)
async def test_who_caused_the_request(serve: Any, sites: list[str], foreign: bool) -> None:
    serving = await serve()
    await get(serving.port, "/a?b=1", *(f"Sec-Fetch-Site: {site}" for site in sites))
    assert serving.asked == [Request("/a", "b=1", is_foreign=foreign)]


@pytest.mark.parametrize(
    ("referrer", "foreign"),
    [
        ("", False),
        ("http://localhost:{port}/done", False),
        ("http://127.0.0.1:{port}/", False),
        ("HTTP://LocalHost:{port}?a=b", False),
        ("http://localhost:{port}#x", False),
        ("https://evil.example/", True),
        ("https://localhost:{port}/", True),
        ("http://localhost/", True),
        ("http://localhost:{port}.evil.example/", True),
        ("http://localhost:{port}@evil.example/", True),
        ("http://evil.example/?http://localhost:{port}/", True),
        ("localhost:{port}/", True),
        ("about:blank", True),
    ],
)
async def test_who_caused_the_request_by_its_referrer(serve: Any, referrer: str, foreign: bool) -> None:
    serving = await serve()
    await get(serving.port, "/a", f"Referer: {referrer.format(port=serving.port)}")
    assert serving.asked == [Request("/a", "", is_foreign=foreign)]


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get", "BREW"])
async def test_other_methods_are_not_allowed(serve: Any, method: str) -> None:
    serving = await serve()
    answer = await get(serving.port, "/auth/callback", method=method)
    assert (answer.status, answer.headers[b"allow"]) == (405, b"GET")
    assert (answer.body == b"") == (method == "HEAD")
    assert serving.asked == []
    await still_serves(serving)


@pytest.mark.parametrize(
    "body",
    [
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 9999\r\n\r\nhe",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
        "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        "Content-Length: x\r\n\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_bodies_are_refused_or_left_alone(serve: Any, method: str, body: str) -> None:
    serving = await serve(Limits(patience=60.0, drain=0.05))
    head = f"{method} /a HTTP/1.1\r\nHost: localhost:{serving.port}\r\n{body}"
    answer = read(await send(serving.port, head.encode()))
    assert answer.status in ((405, 400, 501) if method == "POST" else (200, 400, 501))
    await still_serves(serving)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost:%d\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost:%d\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost:%d\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost:%d\r\nX: a\x00b\r\n\r\n",
        b"* / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n",
    ],
)
async def test_what_is_no_request_for_us_is_refused(serve: Any, data: bytes) -> None:
    serving = await serve()
    answer = await send(serving.port, data.replace(b"%d", str(serving.port).encode()))
    assert answer == b"" or read(answer, "CONNECT" if data.startswith(b"CONNECT") else "GET").status in (400, 405, 421)
    assert serving.asked == []
    await still_serves(serving)


async def test_of_many_requests_in_one_connection_the_first_is_answered(serve: Any) -> None:
    serving = await serve()
    one = f"GET /a HTTP/1.1\r\nHost: localhost:{serving.port}\r\n\r\n".encode()
    data = await send(serving.port, one * 50)
    assert data.count(b"HTTP/1.1 200") == 1
    assert len(serving.asked) == 1


@pytest.mark.parametrize("shape", ["one header", "many headers", "the target", "one line"])
async def test_a_megabyte_of_headers_is_refused_and_the_sender_reads_so(serve: Any, shape: str) -> None:
    serving = await serve()
    head, size = f"GET / HTTP/1.1\r\nHost: localhost:{serving.port}\r\n", 1024 * 1024
    data = {
        "one header": f"{head}X: {'x' * size}\r\n\r\n",
        "many headers": head + "X: y\r\n" * (size // 6) + "\r\n",
        "the target": f"GET /{'x' * size} HTTP/1.1\r\n\r\n",
        "one line": "x" * size,
    }[shape]
    assert read(await send(serving.port, data.encode())).status in (400, 431)
    assert serving.asked == []
    await still_serves(serving)


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
async def test_a_head_has_so_many_bytes_and_not_one_more(serve: Any, more: int, status: int) -> None:
    serving = await serve()
    head = f"GET / HTTP/1.1\r\nHost: localhost:{serving.port}\r\nX: \r\n\r\n"
    filled = head.replace("X: ", "X: " + "x" * (16 * 1024 - len(head) + more))
    assert read(await send(serving.port, filled.encode())).status == status


async def test_an_endless_head_is_cut_off(serve: Any) -> None:
    serving = await serve()
    _, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    writer.write(f"GET / HTTP/1.1\r\nHost: localhost:{serving.port}\r\n".encode())
    sent = 0
    with pytest.raises(ConnectionError):
        while True:
            writer.write(b"X: " + b"x" * 65536)
            await writer.drain()
            sent += 65536
            assert sent < 64 * 1024 * 1024
    writer.close()
    await still_serves(serving)


async def test_who_sends_slowly_is_cut_off(serve: Any) -> None:
    serving = await serve(Limits(patience=0.2))
    head = f"GET / HTTP/1.1\r\nHost: localhost:{serving.port}\r\n" + "X: y\r\n" * 1000
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    reading = asyncio.create_task(reader.read())
    for letter in head.encode():
        if reading.done():
            break
        writer.write(bytes([letter]))
        await asyncio.wait([reading], timeout=0.01)
    with suppress(ConnectionError):
        assert await reading == b""
    writer.close()
    assert serving.asked == []
    await still_serves(serving)


async def test_who_reads_slowly_is_cut_off(serve: Any) -> None:
    serving = await serve(Limits(patience=0.2))
    serving.server._handle = huge
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", serving.port))
    client.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{serving.port}\r\n\r\n".encode())
    await until(lambda: len(serving.server._tasks) == 1)
    await until(lambda: not serving.server._tasks)
    client.close()
    assert serving.faults == []


@pytest.mark.skipif(sys.platform == "win32", reason="it counts descriptors")
async def test_who_reads_nothing_of_a_short_answer_is_cut_off(serve: Any) -> None:
    """It is too long for the buffers of the system, and so short that asyncio would close the connection only when
    everything was read.
    """
    serving = await serve(Limits(patience=0.2))
    serving.server._handle = short
    serving.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.connect(("127.0.0.1", serving.port))
        client.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{serving.port}\r\n\r\n".encode())
        await until(lambda: len(serving.server._tasks) == 1)
        before = open_files()
        await until(lambda: not serving.server._tasks and open_files() < before)


async def short(request: Request) -> Response:
    return Response(200, b"x" * 40_000)


async def huge(request: Request) -> Response:
    return Response(200, b"x" * 20_000_000)


async def test_five_hundred_idle_connections_do_not_keep_the_browser_out(serve: Any) -> None:
    serving = await serve()
    idle = []
    for _ in range(500):
        client = socket.socket()
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", serving.port))
        idle.append(client)
    await still_serves(serving)
    assert len(serving.server._idle) <= 100
    for client in idle:
        client.close()
    await until(lambda: not serving.server._tasks)


async def test_one_that_is_being_answered_is_not_dropped_for_idle_ones(serve: Any) -> None:
    serving = await serve(Limits(connections=3))
    serving.may_answer.clear()
    waiting = asyncio.create_task(get(serving.port, "/slow"))
    await until(lambda: len(serving.asked) == 1)
    idle = [await asyncio.open_connection("127.0.0.1", serving.port) for _ in range(10)]
    await until(lambda: len(serving.server._tasks) == 4)
    serving.may_answer.set()
    assert (await waiting).body == b"/slow"
    for _, writer in idle:
        writer.close()


async def test_more_questions_at_once_than_it_takes_are_turned_away(serve: Any) -> None:
    serving = await serve(Limits(connections=3))
    serving.may_answer.clear()
    waiting = [asyncio.create_task(get(serving.port, "/slow")) for _ in range(3)]
    await until(lambda: len(serving.asked) == 3)
    assert (await get(serving.port, "/more")).status == 503
    serving.may_answer.set()
    assert [answer.status for answer in await asyncio.gather(*waiting)] == [200] * 3
    await still_serves(serving)


async def test_a_fault_in_the_handler_is_reported_and_not_shown(serve: Any) -> None:
    serving = await serve()
    answer = await get(serving.port, "/fault")
    assert (answer.status, b"secret" in answer.body) == (500, False)
    assert [type(fault["exception"]) for fault in serving.faults] == [ZeroDivisionError]
    serving.faults.clear()
    await still_serves(serving)


@pytest.mark.parametrize("moment", ["idle", "half a head", "asked", "gone"])
async def test_closing_ends_every_connection(serve: Any, moment: str) -> None:
    serving = await serve()
    serving.may_answer.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    head = f"GET / HTTP/1.1\r\nHost: localhost:{serving.port}\r\n\r\n".encode()
    if moment != "idle":
        writer.write(head[:20] if moment == "half a head" else head)
    await until(lambda: len(serving.asked) == (moment in ("asked", "gone")))
    await until(lambda: len(serving.server._tasks) == 1)
    if moment == "gone":
        writer.transport.abort()
    await asyncio.wait_for(serving.server.aclose(grace=0.05), 30)
    assert serving.server._tasks == set()
    if moment != "gone":
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError):
        await get(serving.port, "/")
    assert serving.faults == []


async def test_an_answer_without_a_body_says_no_length(serve: Any) -> None:
    serving = await serve()

    async def nothing(request: Request) -> Response:
        return Response(204)

    serving.server._handle = nothing
    answer = await get(serving.port, "/favicon.ico")
    assert (answer.status, answer.headers.get(b"content-length")) == (204, None)
