"""`authstate logout` and `authstate status` where the login cannot be revoked, or cannot be refreshed."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from authstate.adapters.cli.demo import read_login
from authstate.adapters.cli.main import main
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ChatgptTokens
from authstate.testing import LoopbackIssuer, make_tokens

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback: LoopbackIssuer) -> Path:
    """An empty home, and an issuer on loopback."""
    for name in list(os.environ):
        if name.startswith(("CODEX_", "OPENAI_")):
            monkeypatch.delenv(name)
    for name, value in loopback.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    return tmp_path


def store(home: Path, tokens: ChatgptTokens) -> None:
    async def save() -> None:
        async with AuthJsonStore(home).locked() as held:
            await held.save(tokens)

    asyncio.run(save())


def test_a_logout_says_when_the_issuer_could_not_be_told(
    home: Path, loopback: LoopbackIssuer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = read_login(loopback.seed())
    store(home, tokens)
    monkeypatch.setenv("CODEX_REVOKE_TOKEN_URL_OVERRIDE", "http://127.0.0.1:1/oauth/revoke")
    assert main(["logout"]) == 0
    output = capsys.readouterr()
    assert output.out == f"Signed out. Nothing is stored in {home / 'auth.json'} any more.\n"
    assert output.err.startswith(
        "authstate: the old refresh token could not be revoked, and a copy of it may still work: "
    )
    assert output.err.count("\n") == 1 and tokens.refresh_token.reveal() not in output.err
    assert not (home / "auth.json").exists()


def test_a_logout_says_when_what_was_stored_could_not_be_read(home: Path, capsys: Captured) -> None:
    (home / "auth.json").write_bytes(b'{"tokens": {"refresh_token": "canary"')
    assert main(["logout"]) == 0
    error = capsys.readouterr().err
    assert "what was stored could not be read, so it was not revoked" in error and "canary" not in error
    assert not (home / "auth.json").exists()


def test_a_login_without_a_refresh_token_at_the_command_line(
    home: Path, loopback: LoopbackIssuer, capsys: Captured
) -> None:
    before = loopback.stats()
    store(home, tokens := make_tokens(refresh_token=""))
    assert main(["token"]) == 0
    assert capsys.readouterr().out.strip() == tokens.access_token.reveal()
    assert main(["status", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["signedIn"]) == ("chatgpt", True)
    assert shown["warnings"] == ["there is no refresh token: sign in again when the access token expires"]
    store(home, make_tokens(refresh_token="", expires_in=-60))
    for command in ("token", "status", "token"):
        assert main([command]) == 2
        output = capsys.readouterr()
        assert "this sign-in has no refresh token" in output.out + output.err
    assert main(["logout"]) == 0
    assert capsys.readouterr().err == ""
    assert loopback.stats() == before
