"""The server: its two sides, idle and slow clients, strangers, and its end."""

import asyncio
import json
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec
import pytest
from support.broker_in_memory import BrokerInMemory
from support.network_servers import Authority
from support.ports import private_port

from authstate.adapters.broker import connections, server
from authstate.adapters.broker.connections import MOST_IDLE, MOST_PIPELINED
from authstate.adapters.broker.listeners import Address
from authstate.adapters.broker.local_api import Place
from authstate.adapters.broker.server import BrokerServer, ServerOptions
from authstate.adapters.config import ConfigError, Environment
from authstate.adapters.testing.tokens import make_tokens
from authstate.engine.model.events import Warned

pytestmark = pytest.mark.skipif(os.name == "nt", reason="unix sockets")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534
PATIENCE = 60.0  # seconds: httpx gives up after 5, and a machine may be busy for as long


class Running(msgspec.Struct):
    """A server that serves."""

    server: BrokerServer
    place: Place
    task: "asyncio.Task[None]"

    @property
    def port(self) -> int:
        return httpx.URL(self.place.url).port or 0

    @property
    def path(self) -> str:
        assert self.place.socket is not None
        return self.place.socket

    def local(self) -> httpx.AsyncClient:
        """A client of the unix socket."""
        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=self.path), base_url="http://localhost", timeout=PATIENCE
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def stop(self) -> None:
        self.server.stop()
        async with asyncio.timeout(PATIENCE):
            await self.task


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(world: BrokerInMemory) -> Start:
    """Starts a server for the broker."""

    @asynccontextmanager
    async def started(**options: Any) -> AsyncIterator[Running]:
        with TemporaryDirectory() as folder:  # a short path
            defaults = {"address": Address("127.0.0.1:0"), "socket": os.path.join(folder, "b", "sock")}
            environment = Environment(home=world.home)
            server = BrokerServer(world.broker, environment, ServerOptions(**{**defaults, **options}))
            ready: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(server.serve(ready.set_result))
            task.add_done_callback(lambda _: ready.done() or ready.cancel())
            running = Running(server, await ready, task)
            yield running
            await running.stop()

    return started


async def answers(running: Running) -> int:
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        return (await client.get(f"{running.place.url}/healthz")).status_code


async def test_two_sides(start: Start, world: BrokerInMemory) -> None:
    handle = await world.lease()
    at = Address(f"127.0.0.1:{private_port()}")  # no other program takes it afterwards
    async with start(address=at) as running, httpx.AsyncClient(timeout=PATIENCE) as tcp, running.local() as local:
        sent = {"grant_type": "refresh_token", "refresh_token": handle}
        for client, url in ((tcp, running.place.url), (local, "http://localhost")):
            assert (await client.post(f"{url}/oauth/token", data=sent)).status_code == 200
        assert (await local.get("/v1/state")).json()["url"] == running.place.url
        assert (await tcp.get(f"{running.place.url}/v1/state")).status_code == 404
        assert stat.S_IMODE(os.stat(running.path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(running.path)).st_mode) == 0o700
        assert "server" not in (await tcp.get(f"{running.place.url}/healthz")).headers
    assert not os.path.exists(running.path)
    with pytest.raises(OSError):
        await running.connect()


async def test_events_end_with_the_server(start: Start) -> None:
    async with start() as running, running.local() as local, local.stream("GET", "/v1/events") as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "retry: 1000"
        running.server.stop()
        assert [line async for line in lines if line] == []


async def test_its_end_waits_for_a_refresh(start: Start, world: BrokerInMemory) -> None:
    await world.store(make_tokens(expires_in=-60))
    async with start() as running, running.local() as local:
        world.authority.hold()
        asked = asyncio.create_task(local.get("/v1/token"))
        await world.authority.asked()
        running.server.stop()
        await asyncio.sleep(0)
        world.authority.release()
        assert (await asked).status_code == 200


async def test_five_hundred_idle_connections(start: Start) -> None:
    async with start() as running:
        idle = [await running.connect() for _ in range(500)]
        assert await answers(running) == 200
        for reader, _ in idle[: 500 - MOST_IDLE]:
            with suppress(ConnectionError):
                assert await reader.read(1) == b"", "the oldest are closed"
        for _, writer in idle:
            writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST /oauth/to", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_head_that_does_not_come_whole(start: Start, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    async with start() as running:
        with monkeypatch.context() as patch:
            patch.setattr(connections, "HEAD_WITHIN", 0.05)
            reader, writer = await running.connect()
            writer.write(sent)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        assert await answers(running) == 200


async def test_the_next_head_of_a_connection_is_bounded_too(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async with start() as running:
        reader, writer = await running.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 OK")
        monkeypatch.setattr(connections, "HEAD_WITHIN", 0.05)
        writer.write(b"GET /heal")
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_a_head_that_is_too_large(start: Start) -> None:
    async with start() as running:
        reader, writer = await running.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: ")
        received = b""
        try:
            for _ in range(1000):
                writer.write(b"x" * 65536)
                await writer.drain()
            received = await reader.read()
        except ConnectionError:
            pass
        if received:
            assert_refused(received, 431, "invalid_request")
        writer.close()
        assert await answers(running) == 200


async def test_what_is_no_request_is_refused_as_json(start: Start) -> None:
    async with start() as running:
        reader, writer = await running.connect()
        writer.write(b"this is no request\r\n\r\n")
        assert_refused(await reader.read(), 400, "invalid_request")
        writer.close()
        assert await answers(running) == 200


async def test_a_request_on_one_connection_too_many_is_refused_as_json(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 2)
    async with start() as running:
        assert await answers(running) == 200
        _, first_writer = await running.connect()
        reader, writer = await running.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert_refused(await reader.read(), 503, "unavailable")
        for one in (writer, first_writer):
            one.close()
            await one.wait_closed()
        while await answers(running) == 503:  # until the server knows that they are closed
            pass


def assert_refused(received: bytes, status: int, code: str) -> None:
    """Check that an answer is whole, a refusal as JSON, and the last one of its connection."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert (headers[b"content-type"], headers[b"connection"]) == (b"application/json", b"close")
    assert int(headers[b"content-length"]) == len(body)
    assert json.loads(body)["error"]["code"] == code and json.loads(body)["error"]["message"]


async def test_a_reader_that_does_not_read(
    start: Start, world: BrokerInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as running, running.local() as client:
        reader, writer = await asyncio.open_unix_connection(running.path)
        writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 OK" in await reader.readuntil(b"retry: 1000")
        assert "authstate_event_streams 1.0" in (await client.get("/metrics")).text  # this connection goes on
        monkeypatch.setattr(connections, "HEAD_WITHIN", 0.2)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(40):
            world.broker.events.emit("home", Warned("large", "x " * 50_000))
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            while "authstate_event_streams 0.0" not in (await client.get("/metrics")).text:
                pass
        writer.close()


async def test_requests_without_an_end(start: Start) -> None:
    async with start() as running:
        reader, writer = await running.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
        received = b""
        with suppress(ConnectionError):
            while part := await reader.read(65536):
                received += part
        assert received.count(b"HTTP/1.1 200 OK") <= MOST_PIPELINED + 1
        writer.close()
        assert await answers(running) == 200


async def test_requests_in_one_piece(start: Start) -> None:
    async with start() as running:
        reader, writer = await running.connect()
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(request * 30 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 31
        writer.close()


async def test_what_is_no_http(start: Start) -> None:
    async with start() as running:
        reader, writer = await running.connect()
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 nonsense\r\n\r\n")
        assert b"400 Bad Request" in await reader.read()
        writer.close()


async def test_the_process_of_a_stranger(start: Start) -> None:
    """Even if the mode of the socket were wider than it is."""
    if not is_root:
        pytest.skip("only root can start the process of another user")
    async with start() as running:
        for place in (Path(running.path).parent.parent, Path(running.path).parent, Path(running.path)):
            place.chmod(0o777)
        program = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    try:
        client.sendall(b"GET /v1/token HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        print(client.recv(9).decode())
    except ConnectionError:
        print("closed")
"""

        async def ask(uid: int) -> str:
            command = [sys.executable, "-c", program, running.path, str(uid)]
            child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            return (await child.communicate())[0].decode().strip()

        assert await ask(0) == "HTTP/1.1"
        assert await ask(NOBODY) in ("", "closed")


async def test_tls_to_other_machines(start: Start, world: BrokerInMemory, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server("localhost")
    [certificate] = tmp_path.glob("localhost*.pem")  # with its key
    async with start(address=Address("0.0.0.0:0"), certificate=str(certificate)) as running:
        assert running.place.url.startswith("https://0.0.0.0:")
        context = ssl.create_default_context(cafile=str(authority.file))
        async with httpx.AsyncClient(verify=context, timeout=PATIENCE) as client:
            sent = {"grant_type": "refresh_token", "refresh_token": await world.lease()}
            url = f"https://localhost:{running.port}/oauth/token"
            answer = await client.post(url, data=sent, headers={"Host": "broker.example.com"})
            assert answer.status_code == 200
        reader, writer = await running.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert await reader.read() == b"", "not without TLS"
        writer.close()


async def test_more_names_on_loopback(start: Start) -> None:
    async with start(hosts=("Host.Docker.Internal",)) as running, httpx.AsyncClient(timeout=PATIENCE) as client:
        for name, status in (("host.docker.internal:4517", 200), ("example.com", 421)):
            answer = await client.get(f"{running.place.url}/healthz", headers={"Host": name})
            assert answer.status_code == status


def test_a_broker_is_not_its_own_issuer(world: BrokerInMemory) -> None:
    port = private_port()
    environment = Environment(home=world.home, refresh_url=f"http://localhost:{port}/oauth/token")
    options = ServerOptions(address=Address(f"127.0.0.1:{port}"), socket=None)
    with pytest.raises(ConfigError, match=f"AUTHSTATE_BROKER_URL=http://127.0.0.1:{port}"):
        BrokerServer(world.broker, environment, options)
    Address(f"127.0.0.1:{port}").listen()[0].close()


def test_nothing_is_held_after_an_error(world: BrokerInMemory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    port = private_port()
    options = ServerOptions(address=Address(f"127.0.0.1:{port}"), socket=str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="is not a socket"):
        BrokerServer(world.broker, Environment(home=world.home), options)
    Address(f"127.0.0.1:{port}").listen()[0].close()
