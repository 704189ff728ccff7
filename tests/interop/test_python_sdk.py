"""OpenAI's own Python SDK signs in through `authstate app-server`, as an application would that uses it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.python_sdk import RELEASE
from support.simulated_browser import agree, decline
from support.wire_client import clean_environment

from authstate.testing import LoopbackIssuer

AUTHSTATE = Path(sys.executable).with_name("authstate.exe" if sys.platform == "win32" else "authstate")
MakeHome = Callable[..., Path]


@pytest.fixture
def home(make_home: MakeHome) -> Path:
    return make_home()


@pytest.fixture
def codex(sdk: Any, home: Path, issuer: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The SDK's client, with authstate where it expects codex."""
    for name in ("CODEX_API_KEY", "COV_CORE_SOURCE", "COV_CORE_CONFIG", "COV_CORE_DATAFILE"):
        monkeypatch.delenv(name, raising=False)
    environment = {**issuer.environment, "HOME": str(home), "CODEX_HOME": str(home)}
    with sdk.Codex(sdk.CodexConfig(codex_bin=str(AUTHSTATE), env=environment)) as client:
        yield client


def account(codex: Any, **options: bool) -> dict[str, Any] | None:
    found = codex.account(**options).account
    shown: dict[str, Any] | None = found and found.model_dump(mode="json", by_alias=True)
    return shown


def test_it_is_the_release_that_is_named(sdk: Any, codex: Any) -> None:
    assert sdk.__version__ == RELEASE
    assert codex.metadata.serverInfo.name == "codex_python_sdk"


def test_an_api_key(codex: Any, home: Path) -> None:
    assert account(codex) is None
    codex.login_api_key("sk-from-the-sdk")
    assert account(codex) == {"type": "apiKey"}
    assert json.loads((home / "auth.json").read_text())["OPENAI_API_KEY"] == "sk-from-the-sdk"
    codex.logout()
    assert account(codex) is None
    assert not (home / "auth.json").exists()


def test_a_key_that_is_refused_is_an_error_of_the_sdk(sdk: Any, codex: Any) -> None:
    with pytest.raises(sdk.InvalidRequestError, match="API key"):
        codex.login_api_key("  ")
    assert account(codex) is None


def test_a_device_code(codex: Any, issuer: LoopbackIssuer, home: Path, binaries: dict[str, Path]) -> None:
    login = codex.login_chatgpt_device_code()
    assert login.verification_url == f"{issuer.url}/codex/device"
    issuer.approve_device(login.user_code, email="who@example.com", plan="pro")
    done = login.wait()
    assert (done.login_id, done.success, done.error) == (login.login_id, True, None)
    assert account(codex) == {"type": "chatgpt", "email": "who@example.com", "planType": "pro"}
    before = (home / "auth.json").read_bytes()
    assert account(codex, refresh_token=True) == account(codex)
    assert (home / "auth.json").read_bytes() != before
    for binary in binaries.values():
        assert "ChatGPT" in login_status(binary, home, issuer)
    codex.logout()
    assert account(codex) is None
    codex.close()  # authstate waits for the revocation
    assert issuer.stats()["revocations"] == 1


def test_a_device_code_that_is_cancelled(codex: Any, issuer: LoopbackIssuer) -> None:
    login = codex.login_chatgpt_device_code()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(login.wait)
        assert login.cancel().status.value == "canceled"
        done = waiting.result(60)
    assert (done.login_id, done.success) == (login.login_id, False)
    assert login.cancel().status.value == "notFound"
    assert account(codex) is None


def test_an_issuer_without_device_codes_is_an_error_of_the_sdk(sdk: Any, codex: Any, issuer: LoopbackIssuer) -> None:
    issuer.behave("device", mode="status", status=404)
    with pytest.raises(sdk.InvalidRequestError, match="not enabled"):
        codex.login_chatgpt_device_code()
    assert account(codex) is None


def test_a_browser(codex: Any, issuer: LoopbackIssuer, home: Path, binaries: dict[str, Path]) -> None:
    login = codex.login_chatgpt()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(login.wait)
        page = agree(issuer, login.auth_url, email="who@example.com", plan="team")
        done = waiting.result(60)
    assert (done.login_id, done.success, done.error) == (login.login_id, True, None)
    assert "signed in" in page.lower()
    assert account(codex) == {"type": "chatgpt", "email": "who@example.com", "planType": "team"}
    for binary in binaries.values():
        assert "ChatGPT" in login_status(binary, home, issuer)
    codex.logout()
    assert account(codex) is None
    codex.close()
    assert issuer.stats()["revocations"] == 1


def test_a_browser_login_that_is_cancelled_and_one_that_is_declined(codex: Any, issuer: LoopbackIssuer) -> None:
    login = codex.login_chatgpt()
    assert login.cancel().status.value == "canceled"
    assert not login.wait().success
    again = codex.login_chatgpt()
    page = decline(issuer, again.auth_url)
    done = again.wait()
    assert (done.login_id, done.success) == (again.login_id, False)
    assert "declined" in done.error
    assert "<b>" not in page
    assert account(codex) is None


def login_status(binary: Path, home: Path, issuer: LoopbackIssuer) -> str:
    """What `codex login status` says of a home where it must find somebody signed in."""
    environment = clean_environment(home, **issuer.environment)
    done = subprocess.run([binary, "login", "status"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
