"""The client of authstate's own commands: it asks the broker of this home and of this user, and no other one."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.broker_in_memory import BrokerInMemory

from authstate.adapters.broker import local_client
from authstate.adapters.broker.listeners import Address
from authstate.adapters.broker.local_client import BrokerClient, socket_path
from authstate.adapters.broker.server import BrokerServer, ServerOptions
from authstate.adapters.config import Environment

pytestmark = pytest.mark.skipif(os.name == "nt", reason="unix sockets")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits for a broker for as long as a busy machine may take."""
    monkeypatch.setattr(local_client, "_CONNECT_WITHIN", 60.0)
    monkeypatch.setattr(BrokerClient.get, "__defaults__", (60.0,))


@asynccontextmanager
async def served(world: BrokerInMemory, path: str) -> AsyncIterator[None]:
    options = ServerOptions(address=Address("127.0.0.1:0"), socket=path)
    server = BrokerServer(world.broker, Environment(home=world.home), options)
    ready = asyncio.Event()
    task = asyncio.create_task(server.serve(lambda place: ready.set()))
    await ready.wait()
    yield
    server.stop()
    await task


@asynccontextmanager
async def answering(path: str, answer: bytes) -> AsyncIterator[None]:
    """A program that answers each connection with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield


@pytest.fixture
def path() -> Iterator[str]:
    with TemporaryDirectory() as folder:
        yield os.path.join(folder, "b.sock")


async def test_it_asks_the_broker_of_the_home(world: BrokerInMemory, path: str) -> None:
    environ = {"AUTHSTATE_BROKER_SOCKET": path}
    assert BrokerClient.of(world.home, environ) is None
    async with served(world, path):
        client = BrokerClient.of(world.home, environ)
        assert client is not None
        state = await client.get("/v1/state")
        assert state is not None
        assert state["home"] == str(world.home)
        token = await client.token("home", min_lifetime=60)
        assert token is not None
        assert token["kind"] == "access_token"
        account = await client.account("home")
        assert account is not None
        assert account["state"] == "chatgpt"
        assert await client.account("no/body?") is None
        assert await client.get("/v1/nothing") is None
    assert await client.get("/v1/state") is None


async def test_the_broker_of_another_home_is_not_used(world: BrokerInMemory, path: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "same").symlink_to(world.home)
    async with served(world, path):
        for home, is_used in ((other, False), (tmp_path / "missing", False), (tmp_path / "same", True)):
            client = BrokerClient(str(home), path)
            assert (await client.get("/v1/state") is not None) is is_used


async def test_a_broker_of_another_user_is_not_used(
    world: BrokerInMemory, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(world, path):
        monkeypatch.setattr("authstate.adapters.io.peers.uid_of_peer", lambda connection: 12345)
        assert await BrokerClient(str(world.home), path).get("/v1/state") is None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nAuthstate-Home: HOME\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nAuthstate-Home: HOME\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nAuthstate-Home: HOME\r\nContent-Length: 2\r\n\r\n{x",
        b"HTTP/1.1 503 Unavailable\r\nAuthstate-Home: HOME\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nAuthstate-Home: HOME\r\n\r\n" + b"x" * 2_000_000,
        b"HTTP/1.1 200 OK\r\nAuthstate-Home: \xff\x00\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_an_answer_that_is_none(tmp_path: Path, path: str, answer: bytes) -> None:
    async with answering(path, answer.replace(b"HOME", os.fsencode(tmp_path))):
        assert await BrokerClient(str(tmp_path), path).get("/v1/state") is None


async def test_an_answer_that_is_one(tmp_path: Path, path: str) -> None:
    answer = b"HTTP/1.1 200 OK\r\nAuthstate-Home: %b\r\nContent-Length: 7\r\n\r\n" % os.fsencode(tmp_path)
    async with answering(path, answer + b'{"a":1}'):
        assert await BrokerClient(str(tmp_path), path).get("/v1/state") == {"a": 1}


async def test_a_broker_that_hangs(tmp_path: Path, path: str) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(hang, path):
        assert await BrokerClient(str(tmp_path), path).get("/v1/state", within=0.05) is None


def test_the_path_of_the_socket(tmp_path: Path) -> None:
    assert socket_path(tmp_path, {}) == str(tmp_path / "authstate" / "broker.sock")
    assert socket_path(tmp_path, {"AUTHSTATE_BROKER_SOCKET": "/run/b.sock"}) == "/run/b.sock"
