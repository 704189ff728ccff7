"""OpenAI's own Python SDK runs threads and turns through `authstate-codex`, and other commands reach the real codex."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.codex_binaries import NEW
from support.codex_turns import model_config
from support.wire_client import clean_environment

from authstate.adapters.cli.codex_arguments import starts_app_server
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
SCRIPT = Path(sys.executable).with_name("authstate-codex.exe" if sys.platform == "win32" else "authstate-codex")


@pytest.fixture
def home(make_home: MakeHome, issuer: LoopbackIssuer) -> Path:
    return make_home(config=model_config(issuer))


@pytest.fixture
def environment(home: Path, issuer: LoopbackIssuer, binaries: dict[str, Path]) -> dict[str, str]:
    return clean_environment(home, **issuer.environment, AUTHSTATE_CODEX=str(binaries[NEW]))


@pytest.fixture
def client(sdk: Any, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The SDK's client, with `authstate-codex` where it expects codex."""
    for name in ("CODEX_API_KEY", "COV_CORE_SOURCE", "COV_CORE_CONFIG", "COV_CORE_DATAFILE"):
        monkeypatch.delenv(name, raising=False)
    with sdk.Codex(sdk.CodexConfig(codex_bin=str(SCRIPT), env=environment)) as started:
        yield started


def test_it_signs_in_and_runs_turns_while_tokens_expire(client: Any, home: Path, issuer: LoopbackIssuer) -> None:
    login = client.login_chatgpt_device_code()
    issuer.approve_device(login.user_code, email="person@example.com")
    assert login.wait().success
    assert client.account().account.model_dump(mode="json", by_alias=True)["email"] == "person@example.com"
    thread = client.thread_start(cwd=str(home))
    assert thread.run("hello").final_response == "You said: hello"
    issuer.expire_access()
    assert thread.run("hello again").final_response == "You said: hello again"
    client.logout()
    assert client.account().account is None
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


def test_other_commands_are_the_real_codex(environment: dict[str, str]) -> None:
    done = subprocess.run([SCRIPT, "--version"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith(NEW)
    done = subprocess.run([SCRIPT, "login", "status"], env=environment, capture_output=True, text=True, timeout=60)
    assert "Not logged in" in done.stdout + done.stderr


def test_another_command_runs_a_turn_on_the_same_login(
    make_home: MakeHome, issuer: LoopbackIssuer, codex: Path
) -> None:
    home = make_home(email="person@example.com", expires_in=60, config=model_config(issuer))
    issuer.expire_access()
    done = subprocess.run(
        [SCRIPT, "exec", "--skip-git-repo-check", "hello"],
        stdin=subprocess.DEVNULL,
        cwd=home,
        env=clean_environment(home, **issuer.environment, AUTHSTATE_CODEX=str(codex)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "You said: hello")
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


def test_the_value_of_an_option_is_not_a_subcommand(codex: Path) -> None:
    """For every option of this codex that takes one value. Otherwise an app-server would silently not be wrapped.

    An option that takes several, such as `--image`, takes the word `app-server`, too (measured with 0.171.0).
    """
    for before in ([], ["app-server"]):
        page = subprocess.run([codex, *before, "--help"], capture_output=True, text=True, timeout=60, check=True)
        options = re.findall(r"^ +(?:-\w, )?(--[\w-]+) <[^>]+>(?!\.\.\.)", page.stdout, re.M)
        assert len(options) > 2
        for option in options:
            words = [option, "value", "app-server"] if not before else ["app-server", option, "value"]
            assert starts_app_server(words, str(codex)), option


def test_what_only_prints_of_app_server_is_the_real_codex(environment: dict[str, str], tmp_path: Path) -> None:
    command = [str(SCRIPT), "app-server", "generate-json-schema", "--out", str(tmp_path / "schemas")]
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert (tmp_path / "schemas" / "ClientRequest.json").exists()
