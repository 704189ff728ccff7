"""A real codex whose tokens come from brokers on a PostgreSQL database."""

import base64
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import pytest
from support.brokers import BrokerService
from support.codex_children import Child
from support.codex_turns import model_config
from support.database_brokers import store
from support.wire_client import AUTHSTATE, clean_environment

from authstate import ChatgptTokens, EncryptionKeys, PostgresDatabase
from authstate.engine.model.lease_handle import PREFIX
from authstate.testing import LoopbackIssuer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL exists on Unix only")
PERSON = {"email": "person@example.com", "account_id": "org-person"}
KEY = bytes(range(32))


class Balancer:
    """Forwards each connection to the first of several brokers that accepts it."""

    def __init__(self, urls: list[str]) -> None:
        self._targets = [("127.0.0.1", int(url.rpartition(":")[2])) for url in urls]
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                client, _ = self._server.accept()
                for target in self._targets:
                    with suppress(ConnectionRefusedError):
                        server = socket.create_connection(target)
                        break
                else:
                    client.close()
                    continue
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text("first=" + base64.b64encode(KEY).decode())
    file.chmod(0o600)
    return file


def run_to_its_end(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def homes(folder: Path) -> Iterator[Path]:
    for number in range(10):
        home = folder / f"machine-{number}"
        home.mkdir()
        yield home


async def test_codex_goes_on_through_another_broker_of_the_database(
    codex: Path, issuer: LoopbackIssuer, tmp_path: Path, database_url: str, key_file: Path, running: ExitStack
) -> None:
    async with PostgresDatabase(database_url, EncryptionKeys({"first": KEY}), listens=False) as database:
        await store(database, ChatgptTokens.read(**issuer.seed(**PERSON)))
        machines, options = homes(tmp_path), ("--store", database_url, "--keys", str(key_file))
        first, second = [running.enter_context(BrokerService(next(machines), issuer, *options)) for _ in range(2)]
        balancer = running.enter_context(Balancer([first.url, second.url]))
        box, home = tmp_path / "box", next(machines)
        words = ("--account", "alice", "lease", "new", "--into", str(box), *options, "--broker-url", balancer.url)
        run_to_its_end([*AUTHSTATE, *words], clean_environment(home, **issuer.environment))
        with (box / "config.toml").open("a") as config:
            config.write(model_config(issuer))
        variables = dict(line.split("=", 1) for line in (box / "authstate.env").read_text().splitlines())
        child = Child([str(codex)], box, variables, running)
        accepted = 0
        for broker in (first, second):
            issuer.expire_access()
            assert child.turn() == "completed"
            before, accepted = accepted, issuer.stats()["refreshes_accepted"]
            assert accepted > before
            if broker is first:
                assert first.stop(signal.SIGKILL) == -signal.SIGKILL
        assert issuer.stats()["refreshes_refused"] == 0
        stored = await database.store("alice").load()
        assert isinstance(stored, ChatgptTokens) and stored.can_refresh
    written = json.loads((box / "auth.json").read_text())
    assert written["tokens"]["refresh_token"].startswith(PREFIX)
