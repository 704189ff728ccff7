"""Slow clients of the OAuth endpoints, on both servers: they are cut off, and other clients are answered meanwhile."""

import asyncio
import functools
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import httpx
import msgspec
import pytest
from support.broker_in_memory import BrokerInMemory
from support.login_harness import until

from authstate.adapters.broker import app, connections, loopback_broker, server
from authstate.adapters.broker.listeners import Address
from authstate.adapters.broker.local_api import Place
from authstate.adapters.broker.loopback_broker import LoopbackBroker
from authstate.adapters.broker.server import BrokerServer, ServerOptions
from authstate.adapters.config import Environment
from authstate.adapters.network.loopback_server import Limits

BOUND = 0.3  # seconds, here: for a request to come whole, for a reader to go on, and for an idle connection
AT_MOST = 60  # seconds, until a test gives up
SMALL = 1  # bytes; the system makes the smallest buffer of it that it can


class SlowClient:
    """A connection that reads only what it is told to: the buffers of the system are as small as can be."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> "SlowClient":
        await self._loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def send(self, data: bytes) -> None:
        """Send data. Raises OSError once the server has ended the connection."""
        await self._loop.sock_sendall(self._socket, data)

    async def read(self, most: int) -> bytes:
        """Read at most so many bytes, once there are any."""
        return await self._loop.sock_recv(self._socket, most)

    async def rest(self) -> bytes:
        """Read until the server has ended the connection."""
        received = b""
        with suppress(ConnectionError):
            while part := await self.read(65536):
                received += part
        return received

    def is_answered(self) -> bool:
        """Whether the server has sent something or ended the connection."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        return True


class Served(msgspec.Struct):
    """A server of the OAuth endpoints."""

    port: int
    handle: str
    listener: socket.socket
    connections: set[Any]
    """The protocols of the connections that it holds."""

    def request(self, *headers: str, padding: int = 0) -> bytes:
        """A request for tokens. The padding makes its body longer."""
        body = f"grant_type=refresh_token&refresh_token={self.handle}&padding={'x' * padding}"
        lines = ("POST /oauth/token HTTP/1.1", f"Host: localhost:{self.port}", f"Content-Length: {len(body)}", *headers)
        lines = (*lines, "Content-Type: application/x-www-form-urlencoded")
        return ("\r\n".join((*lines, "", "")) + body).encode()

    async def answers(self, request: bytes | None = None) -> int:
        """The status with which another client is answered."""
        async with asyncio.timeout(AT_MOST):
            while not (answer := await self._answer(request or self.request("Connection: close"))):
                pass
        return int(answer.split()[1])

    async def _answer(self, request: bytes) -> bytes:
        """What a quick client is answered. Nothing if the machine held it up for so long that it was a slow one."""
        begun = monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = b""
        with suppress(ConnectionError):
            writer.write(request)
            answer = await reader.read()
        writer.close()
        assert answer or monotonic() - begun >= BOUND, "a quick client was cut off"
        return answer

    def client(self) -> SlowClient:
        return SlowClient(self.port)

    async def answered_client(self) -> SlowClient:
        """A client that sent a request, and read one byte of the answer. The caller leaves it."""
        async with asyncio.timeout(AT_MOST):
            while True:
                begun = monotonic()
                client = await self.client().__aenter__()
                with suppress(ConnectionError):
                    await client.send(self.request())
                    if await client.read(1) == b"H":
                        return client
                await client.__aexit__()
                assert monotonic() - begun >= BOUND, "a client was cut off that was not slow yet"


def track(monkeypatch: pytest.MonkeyPatch, protocol: type[asyncio.Protocol]) -> set[Any]:
    """Return the set of the connections of a protocol, which is kept up to date."""
    held: set[Any] = set()
    made, lost = protocol.connection_made, protocol.connection_lost

    def connection_made(self: Any, transport: asyncio.BaseTransport) -> None:
        if transport.get_extra_info("sockname") is not None:
            held.add(self)
        made(self, transport)

    def connection_lost(self: Any, error: Exception | None) -> None:
        held.discard(self)
        lost(self, error)

    monkeypatch.setattr(protocol, "connection_made", connection_made)
    monkeypatch.setattr(protocol, "connection_lost", connection_lost)
    return held


@asynccontextmanager
async def service(world: BrokerInMemory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """The server of `authstate broker`."""
    monkeypatch.setattr(connections, "HEAD_WITHIN", BOUND)
    monkeypatch.setattr(app, "_BODY_WITHIN", BOUND)
    monkeypatch.setattr(server, "_KEEP_ALIVE", BOUND)
    held = track(monkeypatch, connections.BoundedHttpProtocol)
    options = ServerOptions(address=Address("127.0.0.1:0"), socket=None)
    made = BrokerServer(world.broker, Environment(home=world.home), options)
    ready: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(made.serve(ready.set_result))
    port = httpx.URL((await ready).url).port
    assert port is not None
    try:
        yield Served(port, await world.lease(), made._sockets[0], held)
    finally:
        made.stop()
        await task


@asynccontextmanager
async def run(world: BrokerInMemory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """The server of `authstate run`."""
    monkeypatch.setattr(loopback_broker, "Limits", functools.partial(Limits, patience=BOUND))
    held = track(monkeypatch, asyncio.StreamReaderProtocol)
    listener = socket.create_server(("127.0.0.1", 0))
    made = LoopbackBroker(world.broker, listener)
    await made.start()
    try:
        yield Served(listener.getsockname()[1], await world.lease(), listener, held)
    finally:
        await made.close()


@pytest.fixture(params=[service, run], ids=lambda made: str(made.__name__))
async def served(
    request: pytest.FixtureRequest, world: BrokerInMemory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    """Both servers."""
    if request.param is service and os.name == "nt":
        pytest.skip("unix sockets")
    async with request.param(world, monkeypatch) as made:
        yield made


@pytest.fixture
async def served_by_service(world: BrokerInMemory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """The server of `authstate broker`, whose connections carry more than one request."""
    if os.name == "nt":
        pytest.skip("unix sockets")
    async with service(world, monkeypatch) as made:
        yield made


async def test_who_reads_one_byte_and_then_nothing(served: Served) -> None:
    slow = await served.answered_client()
    assert await served.answers() == 200
    await until(lambda: not served.connections)
    assert (await slow.rest()).startswith(b"TTP/1.1 200 OK")
    assert await served.answers() == 200
    await slow.__aexit__()


async def test_many_who_read_one_byte_and_then_nothing(served: Served) -> None:
    slow = [await served.answered_client() for _ in range(50)]
    assert await served.answers() == 200
    await until(lambda: not served.connections)
    for client in slow:
        await client.__aexit__()


async def send_a_byte_at_a_time(served: Served, slow: SlowClient, request: bytes) -> int:
    """Send a request until the server answers or ends the connection. After each byte, another client is answered.

    Returns:
        How many bytes were sent.
    """
    other = served.request("Connection: close").replace(b"refresh_token=", b"refreshed_token=")
    for sent, byte in enumerate(request):
        if slow.is_answered():
            return sent
        with suppress(ConnectionError):
            await slow.send(bytes([byte]))
        assert await served.answers(other) == 400
    raise AssertionError("the whole request was read")


async def test_who_sends_the_head_a_byte_at_a_time(served: Served) -> None:
    async with served.client() as slow:
        request = served.request("X-Padding: " + "x" * 15_000)
        assert await send_a_byte_at_a_time(served, slow, request) < 15_000
        assert await slow.rest() == b""
        await until(lambda: not served.connections)
    assert await served.answers() == 200


async def test_who_sends_the_body_a_byte_at_a_time(served: Served) -> None:
    async with served.client() as slow:
        head, body = served.request(padding=15_000).split(b"\r\n\r\n")
        await slow.send(head + b"\r\n\r\n")
        assert await send_a_byte_at_a_time(served, slow, body) < 15_000
        answer = await slow.rest()
        assert answer == b"" or b" 408 " in answer
        await until(lambda: not served.connections)
    assert await served.answers() == 200


@pytest.mark.parametrize("last", ["Connection: keep-alive", "Connection: close"])
async def test_who_asks_often_and_reads_nothing(served_by_service: Served, last: str) -> None:
    """The buffers of the system are full, and the server holds an answer that is too short to count as much."""
    served = served_by_service
    served.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    async with served.client() as slow:
        await slow.send(served.request() * 20 + served.request(last))
        assert await served.answers() == 200
        await until(lambda: not served.connections)
        assert (await slow.rest()).count(b"HTTP/1.1 200 OK") < 21
    assert await served.answers() == 200


@pytest.mark.parametrize(
    ("path", "more"), [("/healthz", b"{"), ("/oauth/token", b"\r\n")], ids=["the rest of a body", "an empty line"]
)
async def test_who_goes_on_after_the_answer_with_less_than_a_head(
    served_by_service: Served, path: str, more: bytes
) -> None:
    """It is no longer idle for uvicorn, and sends no request."""
    served = served_by_service
    request = served.request()
    if path != "/oauth/token":  # it answers before the body has come
        request = request.replace(b"POST /oauth/token", f"POST {path}".encode()).partition(b"grant_type")[0]
    async with served.client() as slow:
        await slow.send(request)
        await until(slow.is_answered)
        with suppress(ConnectionError):  # a busy machine may have been too late for it
            await slow.send(more)
        await until(lambda: not served.connections)
    assert await served.answers() == 200
