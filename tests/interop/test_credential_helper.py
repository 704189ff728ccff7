"""What programs that run a credential helper expect of it, measured with the newest codex and older ones.

The recipes themselves are run by test_docs_credential_helper.py.
"""

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.codex_binaries import OLD, newest
from support.real_parts import RealParts
from support.wire_client import AUTHSTATE, clean_environment

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
PERSON = {"email": "person@example.com", "account_id": "org-person"}
EXEC = ("exec", "--skip-git-repo-check", "hi")
ASK = ("token", "--min-lifetime", "600")


@pytest.fixture(scope="module")
def codex(real_parts: RealParts) -> Path:
    """The newest codex."""
    return real_parts.codex("newest")


class Provider:
    """A home of codex whose provider runs `authstate token` with the login of another home, and notes each run."""

    def __init__(self, folder: Path, issuer: LoopbackIssuer, login: Path) -> None:
        self.home = folder / "codex-home"
        self.home.mkdir()
        self._issuer = issuer
        self._runs = folder / "runs"
        helper = folder / "helper"
        asks = f'CODEX_HOME="{login}" exec {" ".join(AUTHSTATE)} "$@"'
        helper.write_text(f'#!/bin/sh\necho "$*" >> "{self._runs}"\n{asks}\n')
        helper.chmod(0o755)
        (self.home / "config.toml").write_text(provider_config(issuer, [str(helper)]))

    def run(self, codex: Path) -> "subprocess.CompletedProcess[str]":
        """Run a turn."""
        environment = clean_environment(self.home, **self._issuer.environment)
        return execute([str(codex), *EXEC], environment, self.home)

    @property
    def runs(self) -> list[str]:
        """The arguments of each run of the command so far."""
        return self._runs.read_text().splitlines() if self._runs.exists() else []


def provider_config(issuer: LoopbackIssuer, command: Sequence[str]) -> str:
    """The config.toml of a codex whose provider is the loopback model, and takes its token from a command."""
    return f"""model = "gpt-5"
model_provider = "company"
[model_providers.company]
name = "company"
base_url = "{issuer.backend_url}/codex"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
[model_providers.company.auth]
command = "{command[0]}"
args = {json.dumps([*command[1:], *ASK])}
timeout_ms = 90000
"""


def execute(
    command: Sequence[str], environment: dict[str, str], cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100
    )


def test_codex_asks_once_and_sends_the_token(
    codex: Path, tmp_path: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    provider = Provider(tmp_path, issuer, make_home(**PERSON, expires_in=-10))
    done = provider.run(codex)
    assert (done.returncode, done.stdout) == (0, "You said: hi\n"), done.stderr
    assert provider.runs == [" ".join(ASK)]
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["backend_refused"]) == (1, 0)


def test_codex_asks_again_after_a_401(codex: Path, tmp_path: Path, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    provider = Provider(tmp_path, issuer, make_home(**PERSON))
    issuer.behave("model", mode="status", status=401, code="token_expired", times=1)
    done = provider.run(codex)
    assert (done.returncode, done.stdout) == (0, "You said: hi\n"), done.stderr
    assert provider.runs == [" ".join(ASK)] * 2
    assert issuer.stats()["refreshes_accepted"] == 0


def test_after_a_401_codex_uses_what_another_program_stored(
    codex: Path, tmp_path: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    """Tokens that the backend revoked come first; while the first request waits, another program signs in."""
    login = make_home(**PERSON)
    issuer.expire_access()
    provider = Provider(tmp_path, issuer, login)
    issuer.hold("model", times=1)
    environment = clean_environment(provider.home, **issuer.environment)
    with subprocess.Popen(
        [str(codex), *EXEC], env=environment, cwd=provider.home, stdin=-3, stdout=-1, stderr=-1
    ) as run:
        while not issuer.stats()["requests"].get("/backend-api/codex/responses"):
            assert run.poll() is None
        newer = make_home(**PERSON)
        os.replace(newer / "auth.json", login / "auth.json")
        issuer.release("model")
        output, errors = run.communicate(timeout=60)
    assert (run.returncode, output) == (0, b"You said: hi\n"), errors
    assert len(provider.runs) == 2


def test_a_token_that_is_refused_before_it_expires_is_printed_again(
    codex: Path, tmp_path: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    """The command cannot know of a 401: the page says so. No refresh token is spent for it."""
    provider = Provider(tmp_path, issuer, make_home(**PERSON))
    issuer.expire_access()
    done = provider.run(codex)
    assert done.returncode == 1
    assert len(provider.runs) == 2
    assert issuer.stats()["refreshes_accepted"] == 0


def test_codex_shows_the_line_of_a_command_that_fails(
    codex: Path, tmp_path: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    provider = Provider(tmp_path, issuer, make_home())
    done = provider.run(codex)
    assert done.returncode == 1
    assert (
        "exited with status exit status: 1: authstate: nobody is signed in to the account home: sign in with "
        in done.stderr
    )


def test_a_turn_with_the_login_of_the_same_home_behind_run(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(**PERSON, expires_in=-10)
    (home / "config.toml").write_text(provider_config(issuer, AUTHSTATE))
    environment = clean_environment(home, **issuer.environment)
    done = execute([*AUTHSTATE, "run", "--", str(codex), *EXEC], environment, home)
    assert (done.returncode, done.stdout) == (0, "You said: hi\n"), done.stderr
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


def test_an_old_codex_runs_no_command(
    real_parts: RealParts, tmp_path: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    provider = Provider(tmp_path, issuer, make_home(**PERSON))
    done = provider.run(real_parts.codex(OLD))
    assert done.returncode == 1
    assert provider.runs == []
    assert issuer.stats()["backend_accepted"] == 0


@pytest.mark.parametrize("version", ["0.120.0", "0.150.0", "0.169.0"])
def test_releases_that_know_the_command(
    version: str, real_parts: RealParts, tmp_path: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    if version == newest():
        pytest.skip("this is the newest release, which the other tests use")
    provider = Provider(tmp_path, issuer, make_home(**PERSON))
    issuer.behave("model", mode="status", status=401, code="token_expired", times=1)
    done = provider.run(real_parts.codex(version))
    assert (done.returncode, done.stdout) == (0, "You said: hi\n"), done.stderr
    assert len(provider.runs) >= 2
