"""No program that authstate starts gets the encryption keys of a database."""

import os
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest
from support.child_in_memory import World, tokens
from support.leaks import CANARY
from support.wire_client import AUTHSTATE, clean_environment

from authstate.adapters.child.client import AppServerClient, HandshakeFailed
from authstate.adapters.cli.browser import BrowserOpening
from authstate.adapters.cli.codex_arguments import options_with_value
from authstate.adapters.cli.demo import _without_keys
from authstate.adapters.io.child_environment import KEYS_VARIABLE
from authstate.testing import LoopbackIssuer

KEYS = {KEYS_VARIABLE: f"a={CANARY}", "AUTHSTATE_CANARY_SEEN": "yes"}
TELL = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(repr(dict(os.environ)))"


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """Where a child writes its environment."""
    return tmp_path / "told"


def assert_hidden(told: Path) -> None:
    """The child has run, and got everything but the keys."""
    environment = told.read_text()
    assert "AUTHSTATE_CANARY_SEEN" in environment
    assert KEYS_VARIABLE not in environment and CANARY not in environment


def run(tmp_path: Path, *command: str, **more: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = clean_environment(home, **KEYS, **more)
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert b"Traceback" not in done.stderr and CANARY.encode() not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["run", "wrap"])
def test_the_command_of(command: str, tmp_path: Path, told: Path) -> None:
    run(tmp_path, *AUTHSTATE, command, "--", sys.executable, "-c", TELL, str(told), "app-server")
    assert_hidden(told)


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for codex")
def test_the_codex_that_replaces_this_process(tmp_path: Path, told: Path) -> None:
    codex = tmp_path / "codex"
    codex.write_text(f"#!/bin/sh\nenv > {told}\n")
    codex.chmod(0o755)
    run(tmp_path, sys.executable, "-m", "authstate.adapters.cli.codex", "--version", AUTHSTATE_CODEX=str(codex))
    assert_hidden(told)


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for codex")
def test_a_codex_that_is_asked_for_its_help(tmp_path: Path, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codex = tmp_path / "codex"
    codex.write_text(f"#!/bin/sh\nenv > {told}\n")
    codex.chmod(0o755)
    set_keys(monkeypatch)
    assert options_with_value(str(codex)) == {}
    assert_hidden(told)


@pytest.mark.parametrize("is_named", [True, False])
async def test_the_child_of_a_client(is_named: bool, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    command = [sys.executable, "-c", TELL, str(told), "app-server"]
    environment = dict(os.environ) if is_named else None
    async with World(tokens()).engine as engine:
        context = AppServerClient.of_command(engine, command, environment=environment, name="test", version="1")
        with pytest.raises(HandshakeFailed):
            async with context:
                raise AssertionError("it has ended")
    assert_hidden(told)


def test_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    seen: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: seen.append(repr(dict(os.environ))) or True)
    BrowserOpening("http://localhost", {}).run()
    assert len(seen) == 1 and CANARY not in seen[0]


def test_the_processes_of_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    assert "AUTHSTATE_CANARY_SEEN" in _without_keys() and CANARY not in repr(_without_keys())


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the environment of a process")
def test_the_issuer_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch)
    with LoopbackIssuer() as issuer:
        assert issuer._process is not None
        environment = Path(f"/proc/{issuer._process.pid}/environ").read_text()
    assert "AUTHSTATE_CANARY_SEEN" in environment and CANARY not in environment


def set_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
