"""`authstate sandbox` and the real codex: a sign-in, turns, an expired token, a revoked login, and the overrides."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from support.codex_children import Child
from support.sandbox_client import SandboxClient
from support.wire_client import clean_environment

from authstate.adapters.sandbox.home import fill
from authstate.adapters.sandbox.server import RunningSandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[RunningSandbox]:
    home = tmp_path / "home"
    home.mkdir()
    with RunningSandbox(home) as started:
        yield started


@pytest.fixture
def control(sandbox: RunningSandbox) -> Iterator[SandboxClient]:
    with httpx.Client(base_url=sandbox.pointing.url, trust_env=False, timeout=40) as http:
        yield SandboxClient(http)


@pytest.fixture
def environment(sandbox: RunningSandbox) -> dict[str, str]:
    """The environment that the sandbox prints, for a codex that runs in it."""
    return clean_environment(Path(sandbox.pointing.home), **sandbox.pointing.environment)


def refreshes(control: SandboxClient) -> list[int | None]:
    """The status of each refresh."""
    return [request["status"] for request in control.requests() if request["endpoint"] == "refresh"]


def test_a_device_sign_in_of_codex(
    codex: Path, sandbox: RunningSandbox, control: SandboxClient, environment: dict[str, str]
) -> None:
    fill(Path(sandbox.pointing.home), sandbox, None)
    command = [str(codex), "login", "--device-auth", "--experimental_issuer", sandbox.pointing.url]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as login:
        control.wait_for_answer("device")
        assert control.post("device", account="bob") == {"account": "bob"}
        assert login.wait(timeout=60) == 0
    status = subprocess.run([str(codex), "login", "status"], env=environment, capture_output=True, text=True)
    assert "ChatGPT" in status.stdout + status.stderr
    assert [(one["account"], one["works"]) for one in control.get("logins")["logins"]] == [("bob", True)]


def test_turns_an_expired_token_and_a_revoked_login(
    codex: Path, sandbox: RunningSandbox, control: SandboxClient
) -> None:
    home = Path(sandbox.pointing.home)
    fill(home, sandbox, "ada")
    with ExitStack() as running:
        child = Child([str(codex)], home, sandbox.pointing.environment, running)
        assert child.turn() == "completed"
        control.post("expire", account="ada")
        assert child.turn() == "completed"
        assert refreshes(control) == [200]
        control.post("revoke", account="ada")
        assert "revoked" in child.turn()
        assert set(refreshes(control)[1:]) == {401}
    assert control.counts()["refreshTokensUsedTwice"] == 0
    models = [request for request in control.requests() if request["endpoint"] == "model"]
    assert {request["account"] for request in models} == {"ada"}
    assert 200 in [request["status"] for request in models]


def test_the_overrides_do_what_config_toml_does(
    codex: Path, sandbox: RunningSandbox, control: SandboxClient, environment: dict[str, str]
) -> None:
    home = Path(sandbox.pointing.home)
    fill(home, sandbox, "bob")
    (home / "config.toml").unlink()
    overrides = [word for override in sandbox.pointing.overrides for word in ("-c", override)]
    command = [str(codex), "exec", "--skip-git-repo-check", *overrides, "hello there"]
    ran = subprocess.run(
        command, env=environment, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "You said: hello there"
    assert [request["account"] for request in control.requests() if request["endpoint"] == "model"] == ["bob"]
