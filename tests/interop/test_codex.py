"""authstate and the real codex: each reads what the other wrote, and the main job with credentials that codex wrote."""

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.codex_binaries import NEW
from support.wire_client import AUTHSTATE, Message, WireClient, clean_environment

from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
KEY = "sk-interop-0123456789"


def run(command: list[str], home: Path, issuer: LoopbackIssuer, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = clean_environment(home, **issuer.environment)
    return subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, timeout=60)


def login_status(codex: Path, home: Path, issuer: LoopbackIssuer) -> str:
    """What `codex login status` says of a home where it must find somebody signed in."""
    done = run([str(codex), "login", "status"], home, issuer)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def told(client: WireClient) -> list[Message]:
    """The notifications and requests that came."""
    return [message for message in client.received if "method" in message]


def is_completed(message: Message) -> bool:
    return message.get("method") == "account/login/completed"


def sign_in_by_codex(codex: Path, home: Path, issuer: LoopbackIssuer, **login: Any) -> None:
    """Let codex 0.169.0 sign somebody in with a device code, and write auth.json."""
    with WireClient([str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        started = client.result("account/login/start", {"type": "chatgptDeviceCode"})
        issuer.approve_device(started["userCode"], **login)
        client.wait_until(lambda: any(is_completed(message) for message in client.received))
        assert any(is_completed(message) and message["params"]["success"] for message in client.received)
    assert (home / "auth.json").exists()


def add_members(home: Path) -> None:
    """Put members into auth.json that no release knows yet."""
    written = json.loads((home / "auth.json").read_text())
    tokens = {**written["tokens"], "of_another_release": 1}
    (home / "auth.json").write_text(json.dumps({**written, "tokens": tokens, "of_another_release": {"kept": True}}))


def refresh_token_in(home: Path) -> str:
    token: str = json.loads((home / "auth.json").read_text())["tokens"]["refresh_token"]
    return token


def mode_of(home: Path) -> int:
    return stat.S_IMODE((home / "auth.json").stat().st_mode)


# Each reads what the other wrote


async def test_an_api_key_that_codex_stored_loads(codex: Path, make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home()
    assert run([str(codex), "login", "--with-api-key"], home, issuer, KEY + "\n").returncode == 0
    stored = await AuthJsonStore(home).load()
    assert isinstance(stored, ApiKey)
    assert stored.key.reveal() == KEY
    assert mode_of(home) == 0o600


async def test_tokens_that_codex_refreshed_load_and_can_be_refreshed(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com", plan="pro")
    before = refresh_token_in(home)
    with WireClient([str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        client.result("account/read", {"refreshToken": True})
    by_codex = await AuthJsonStore(home).load()
    assert isinstance(by_codex, ChatgptTokens)
    assert by_codex.refresh_token.reveal() != before
    assert (by_codex.account.email, by_codex.account.plan_type) == ("person@example.com", "pro")
    with WireClient(AUTHSTATE, clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        client.result("account/read", {"refreshToken": True})
    assert refresh_token_in(home) != by_codex.refresh_token.reveal()
    assert issuer.stats()["refreshes_refused"] == 0


def test_codex_understands_an_api_key_that_authstate_stored(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home()
    assert run([*AUTHSTATE, "login", "--with-api-key"], home, issuer, KEY + "\n").returncode == 0
    assert mode_of(home) == 0o600
    assert "API key" in login_status(codex, home, issuer)
    with WireClient([str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        assert client.result("account/read", {})["account"] == {"type": "apiKey"}
        assert client.result("getAuthStatus", {"includeToken": True})["authToken"] == KEY


def test_codex_understands_tokens_that_authstate_refreshed(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com", plan="pro")
    add_members(home)
    (home / "auth.json").chmod(0o644)
    with WireClient(AUTHSTATE, clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        client.result("account/read", {"refreshToken": True})
    stored = json.loads((home / "auth.json").read_text())
    assert (stored["of_another_release"], stored["tokens"]["of_another_release"]) == ({"kept": True}, 1)
    assert mode_of(home) == 0o600
    assert "ChatGPT" in login_status(codex, home, issuer)
    with WireClient([str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        assert client.result("account/read", {"refreshToken": True})["account"]["email"] == "person@example.com"
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (2, 0)


def test_codex_finds_nobody_after_authstate_signed_out(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com")
    assert run([*AUTHSTATE, "logout"], home, issuer).returncode == 0
    assert run([str(codex), "login", "status"], home, issuer).returncode == 1


# The main job, end to end


def drive(home: Path, issuer: LoopbackIssuer, person: Message) -> None:
    """A client's day with a ChatGPT login: look, refresh, survive a 401, sign out. Checks every step."""
    written, before = json.loads((home / "auth.json").read_text()), issuer.stats()
    listen = ("--listen", "stdio://")
    with WireClient(AUTHSTATE, clean_environment(home, **issuer.environment), listen=listen) as client:
        assert client.initialize()["result"]["userAgent"].startswith("interop/")
        assert client.result("account/read", {}) == {"account": person, "requiresOpenaiAuth": True}
        assert issuer.stats()["refreshes_accepted"] == before["refreshes_accepted"]

        assert client.result("account/read", {"refreshToken": True})["account"] == person
        assert issuer.stats()["refreshes_accepted"] == before["refreshes_accepted"] + 1
        refreshed = json.loads((home / "auth.json").read_text())
        assert refreshed["tokens"]["refresh_token"] != written["tokens"]["refresh_token"]
        assert refreshed["of_another_release"] == {"kept": True}

        issuer.expire_access()
        refused = issuer.stats()["backend_refused"]
        limits = client.result("account/rateLimits/read")
        assert (limits["rateLimits"]["planType"], limits["rateLimits"]["primary"]["usedPercent"]) == ("pro", 42)
        stats = issuer.stats()
        assert stats["refreshes_accepted"] == before["refreshes_accepted"] + 2
        assert (stats["refreshes_refused"], stats["backend_refused"]) == (0, refused + 1)

        assert client.result("account/logout") == {}
        assert client.result("account/read", {}) == {"account": None, "requiresOpenaiAuth": True}
        client.drain(0.5, after=lambda: bool(told(client)))
    assert [message["method"] for message in told(client)] == ["account/updated"]
    assert client.process.returncode == 0
    assert not (home / "auth.json").exists()
    assert issuer.stats()["revocations"] == 1


PERSON = {"type": "chatgpt", "email": "person@example.com", "planType": "pro"}


def test_a_client_drives_authstate_with_a_login_that_codex_wrote(
    binaries: dict[str, Path], make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home()
    sign_in_by_codex(binaries[NEW], home, issuer, email="person@example.com", plan="pro")
    add_members(home)
    drive(home, issuer, PERSON)
    assert run([str(binaries[NEW]), "login", "status"], home, issuer).returncode == 1


def test_a_client_drives_authstate_with_a_login_that_codex_refreshed(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com", plan="pro")
    with WireClient([str(codex)], clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        client.result("account/read", {"refreshToken": True})
    assert issuer.stats()["refreshes_accepted"] == 1
    add_members(home)
    drive(home, issuer, PERSON)
    assert run([str(codex), "login", "status"], home, issuer).returncode == 1


def test_a_client_drives_authstate_with_a_key_that_codex_stored(
    codex: Path, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home()
    assert run([str(codex), "login", "--with-api-key"], home, issuer, KEY + "\n").returncode == 0
    with WireClient(AUTHSTATE, clean_environment(home, **issuer.environment)) as client:
        client.initialize()
        assert client.result("account/read", {}) == {"account": {"type": "apiKey"}, "requiresOpenaiAuth": True}
        status = client.result("getAuthStatus", {"includeToken": True})
        assert (status["authMethod"], status["authToken"]) == ("apikey", KEY)
        assert client.call("account/rateLimits/read")["error"]["code"] == -32600
        assert client.result("account/logout") == {}
        client.drain(0.5, after=lambda: bool(told(client)))
    assert [message["params"] for message in told(client)] == [{"authMode": None, "planType": None}]
    assert not (home / "auth.json").exists()
    assert run([str(codex), "login", "status"], home, issuer).returncode == 1
