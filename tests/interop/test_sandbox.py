"""Codex in a container-like sandbox with a lease, and what such a sandbox cannot reach. See docs/broker.md."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.brokers import BrokerService
from support.codex_binaries import NEW, OLD
from support.codex_children import Child, memory_of
from support.codex_turns import model_config
from support.processes import descendants
from support.real_parts import RealParts
from support.sandboxes import HOME, USER, Sandbox
from support.wire_client import AUTHSTATE, clean_environment

from authstate.engine.model.lease_handle import PREFIX
from authstate.testing import LoopbackIssuer

if sys.platform != "linux":
    pytest.skip("bubblewrap makes sandboxes on Linux only", allow_module_level=True)

MakeHome = Callable[..., Path]
PERSON = {"email": "person@example.com", "account_id": "org-person"}
EXEC = ("exec", "--skip-git-repo-check", "hi")
REFRESH_TOKEN = re.compile(rb"rt_[\w-]{43}(?![\w-])(?<![\w-].{46})", re.DOTALL)
"""What the loopback issuer gives, as a whole word. It begins with a literal, so that the search is fast."""

PROBE = """
import json, os, socket, sys
def outcome(call):
    try:
        call()
    except OSError as error:
        return type(error).__name__
    return "possible"
def connect(family, address):
    with socket.socket(family) as one:
        one.settimeout(5)
        one.connect(address)
reachable, other, unix, *files = sys.argv[1:]
print(json.dumps({
    "user": os.geteuid(),
    "files": [outcome(lambda file=file: open(file).close()) for file in files],
    "unix": outcome(lambda: connect(socket.AF_UNIX, unix)),
    "broker": outcome(lambda: connect(socket.AF_INET, ("127.0.0.1", int(reachable)))),
    "other port": outcome(lambda: connect(socket.AF_INET, ("127.0.0.1", int(other)))),
    "network": outcome(lambda: connect(socket.AF_INET, ("192.0.2.1", 443))),
    "processes": sum(name.isdecimal() for name in os.listdir("/proc")),
}))
"""


class Setup:
    """A home, its broker, and a folder with a lease of it.

    Args:
        home: where somebody is signed in.
        folder: for the lease. It must not exist.
        issuer: where the broker refreshes.
        running: ends the broker.
    """

    def __init__(self, home: Path, folder: Path, issuer: LoopbackIssuer, running: ExitStack) -> None:
        self.home, self.folder, self.issuer = home, folder, issuer
        stored = json.loads((home / "auth.json").read_text())
        stored["last_refresh"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()  # a token of just now is kept
        (home / "auth.json").write_text(json.dumps(stored))
        self.broker = running.enter_context(BrokerService(home, issuer))
        assert REFRESH_TOKEN.search((home / "auth.json").read_bytes())
        made = subprocess.run(
            [*AUTHSTATE, "lease", "new", "--into", str(folder)],
            env=clean_environment(home, **issuer.environment),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert made.returncode == 0, made.stderr
        written = (folder / "authstate.env").read_text().split()
        self.environment = dict(line.split("=", 1) for line in written)
        (folder / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n{model_config(issuer)}')

    @property
    def ports(self) -> list[int]:
        """What the sandbox needs: the broker, and the backend with the model."""
        return [urlsplit(url).port or 0 for url in (self.broker.url, self.issuer.backend_url)]

    def refreshes(self) -> int:
        """How many refreshes the issuer accepted. It must have refused none."""
        stats = self.issuer.stats()
        assert stats["refreshes_refused"] == 0
        return int(stats["refreshes_accepted"])


@pytest.fixture
def setup(real_parts: RealParts, make_home: MakeHome, tmp_path: Path, issuer: LoopbackIssuer) -> Iterator[Setup]:
    """A person's home with a broker, and a lease for a sandbox."""
    real_parts.bubblewrap()
    with ExitStack() as running:
        yield Setup(make_home(**PERSON), tmp_path / "sandbox", issuer, running)


@pytest.mark.parametrize("release", [OLD, NEW, "newest"])
def test_codex_works_and_never_has_a_refresh_token(release: str, setup: Setup, real_parts: RealParts) -> None:
    codex = real_parts.codex(release)
    with Sandbox(setup.folder, setup.ports, programs=[codex]) as sandbox, ExitStack() as running:
        child = Child(sandbox.command(str(codex), **setup.environment), Path(HOME), {}, running)
        setup.issuer.expire_access()
        assert child.turn() == "completed"
        assert setup.refreshes() >= 1  # from 0.169.0 on, a turn has several requests: a late 401 causes another refresh
        done = subprocess.run(
            sandbox.command(str(codex), *EXEC, **setup.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stdout) == (0, "You said: hi\n"), done.stderr
        inside = [pid for pid in descendants(child.client.process.pid) if program_of(pid) == codex.name]
        assert inside
        for pid in inside:
            assert not REFRESH_TOKEN.search(Path(f"/proc/{pid}/environ").read_bytes())
            memory = memory_of(pid)
            assert PREFIX.encode() in memory
            assert not REFRESH_TOKEN.search(memory)
        for file in setup.folder.rglob("*"):
            if file.is_file():
                assert not REFRESH_TOKEN.search(file.read_bytes()), file
        assert not REFRESH_TOKEN.search(sandbox.sent)
        if os.geteuid() == 0:
            assert {os.stat(f"/proc/{pid}").st_uid for pid in inside} == {USER}


@pytest.mark.parametrize("sees_the_home", [False, True], ids=["own files", "the home is mounted by mistake"])
def test_what_is_beyond_its_reach(sees_the_home: bool, setup: Setup, tmp_path: Path) -> None:
    if sees_the_home and os.geteuid() != 0:
        pytest.skip("only root can give the sandbox another user")
    secrets = [setup.home / "auth.json", setup.home / "authstate" / "leases.json"]
    assert all(file.is_file() for file in secrets)
    assert setup.broker.socket.is_socket()
    shown = [setup.home] if sees_the_home else []
    other = urlsplit(setup.issuer.backend_url).port
    arguments = [str(setup.ports[0]), str(other), str(setup.broker.socket), *map(str, secrets)]
    python = str(Path(sys.executable).resolve())
    with Sandbox(setup.folder, setup.ports[:1], shown=shown) as sandbox:
        done = subprocess.run(
            sandbox.command(python, "-I", "-S", "-c", PROBE, *arguments), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    refused = "PermissionError" if sees_the_home else "FileNotFoundError"
    assert found["files"] == [refused, refused]
    assert found["unix"] == refused
    assert found["broker"] == "possible"
    assert found["other port"] == "ConnectionRefusedError"
    assert found["network"] != "possible"
    assert found["processes"] <= 3
    if os.geteuid() == 0:
        assert found["user"] == USER


def program_of(pid: int) -> str:
    """The name of the program that a process runs."""
    return Path(f"/proc/{pid}/exe").readlink().name
