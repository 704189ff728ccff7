"""`authstate token`: its options, what it says on standard error, and that a failure prints no token."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.homes import fill

from authstate.adapters.cli import token as command
from authstate.adapters.cli.exit_status import ExitStatus
from authstate.adapters.cli.main import main
from authstate.adapters.cli.token_formats import TokenAnswer, TokenFormat, TokenKind
from authstate.adapters.testing.loopback_issuer import LoopbackIssuer

Captured = pytest.CaptureFixture[str]
MakeHome = Callable[..., Path]
OLD = "2026-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home."""
    (tmp_path / "nobody").mkdir()
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "nobody"))


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as started:
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)
        yield started


@pytest.fixture
def make_home(tmp_path: Path, issuer: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch) -> MakeHome:
    """Make the home of this process, with a login that was refreshed long ago."""

    def make(**content: Any) -> Path:
        home = fill(tmp_path / "home", issuer, **content)
        if "expires_in" in content:
            stored = json.loads((home / "auth.json").read_text()) | {"last_refresh": OLD}
            (home / "auth.json").write_text(json.dumps(stored))
        monkeypatch.setenv("CODEX_HOME", str(home))
        return home

    return make


def lasts(shown: dict[str, Any], home: Path) -> bool:
    """Whether the object has the token that is stored, and a time in the future."""
    stored = json.loads((home / "auth.json").read_text())["tokens"]["access_token"]
    left = datetime.fromisoformat(shown["expiresAt"]).timestamp() - datetime.now().timestamp()
    return bool(shown["token"] == stored and left > 0)


def test_a_token_that_lasts_shorter_is_refreshed(make_home: MakeHome, issuer: LoopbackIssuer, capsys: Captured) -> None:
    home = make_home(expires_in=500)
    assert main(["token", "--format", "json", "--min-lifetime", "400"]) == 0
    assert issuer.stats()["refreshes_accepted"] == 0
    assert main(["token", "--format", "json", "--min-lifetime", "600"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert issuer.stats()["refreshes_accepted"] == 1
    assert first["token"] != second["token"]
    assert lasts(second, home)


def test_shorter_tokens_of_the_issuer_are_printed_and_cause_no_loop(
    make_home: MakeHome, issuer: LoopbackIssuer, capsys: Captured
) -> None:
    home = make_home(expires_in=500, next_expires_in=500)
    for _ in range(3):
        assert main(["token", "--format", "json", "--min-lifetime", "600"]) == 0
        output = capsys.readouterr()
        assert lasts(json.loads(output.out), home)
        assert "s, not the 600 s of --min-lifetime: the issuer's tokens last " in output.err
        assert output.err.count("\n") == 1
    assert issuer.stats()["refreshes_accepted"] == 1


def test_an_issuer_that_refuses_for_now_is_named(make_home: MakeHome, issuer: LoopbackIssuer, capsys: Captured) -> None:
    make_home(expires_in=500)
    issuer.behave("refresh", mode="status", status=503, retry_after=60)
    assert main(["token", "--min-lifetime", "600"]) == 0
    output = capsys.readouterr()
    assert output.out.count("\n") == 1
    assert "--min-lifetime: 127.0.0.1" in output.err


def test_a_dead_refresh_token_is_named_each_time(make_home: MakeHome, issuer: LoopbackIssuer, capsys: Captured) -> None:
    make_home(expires_in=500)
    issuer.revoke()
    for _ in range(2):
        assert main(["token", "--min-lifetime", "600"]) == 0
        assert "Your sign-in was revoked" in capsys.readouterr().err
    assert issuer.stats()["refreshes_refused"] == 1


def test_a_login_without_a_refresh_token(make_home: MakeHome, issuer: LoopbackIssuer, capsys: Captured) -> None:
    home = make_home(expires_in=500)
    stored = json.loads((home / "auth.json").read_text())
    stored["tokens"]["refresh_token"] = ""
    (home / "auth.json").write_text(json.dumps(stored))
    assert main(["token", "--min-lifetime", "600"]) == 0
    assert "this login has no refresh token" in capsys.readouterr().err


@pytest.mark.parametrize("form", TokenFormat)
def test_a_failure_prints_nothing_on_standard_output(
    form: TokenFormat, make_home: MakeHome, issuer: LoopbackIssuer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["token", "--format", form, "--min-lifetime", "600"]
    home = make_home(expires_in=-10)
    issuer.revoke()
    assert main(asked) == ExitStatus.REFRESH_DEAD
    (home / "auth.json").unlink()
    assert main(asked) == ExitStatus.NOT_SIGNED_IN
    (home / "auth.json").write_text("{")
    assert main(asked) == ExitStatus.NOT_SIGNED_IN
    (home / "config.toml").write_text("=")
    assert main(asked) == ExitStatus.BAD_CONFIGURATION
    monkeypatch.setenv("CODEX_ACCESS_TOKEN", "at-of-codex")
    assert main(asked) == ExitStatus.BAD_CONFIGURATION
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 5


@pytest.mark.parametrize("form", TokenFormat)
def test_no_form_is_for_a_screen(form: TokenFormat, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_API_KEY", "sk-environment")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["token", "--format", form]) == ExitStatus.USAGE
    assert capsys.readouterr().out == ""
    assert main(["token", "--format", form, "--force"]) == 0
    assert "sk-environment" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "1e9", ""])
def test_a_lifetime_that_is_no_time(value: str, capsys: Captured) -> None:
    assert main(["token", f"--min-lifetime={value}"]) == ExitStatus.USAGE
    output = capsys.readouterr()
    assert output.out == ""
    assert "argument --min-lifetime: must be a number of seconds, at most a year" in output.err


def test_a_key_that_a_shell_would_change(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_API_KEY", "sk-$HOME")
    assert main(["token", "--format", "env"]) == ExitStatus.NOT_SIGNED_IN
    output = capsys.readouterr()
    assert output.out == ""
    assert "use --format json" in output.err and "$HOME" not in output.err


@pytest.mark.parametrize("token", ["sk-key", "at-personal"])
def test_what_does_not_expire_is_an_api_key(
    token: str, make_home: MakeHome, issuer: LoopbackIssuer, capsys: Captured
) -> None:
    issuer.register_token("at-personal", account_id="org-7")
    members = {"OPENAI_API_KEY": token} if token == "sk-key" else {"personal_access_token": token}
    make_home(auth=members)
    assert main(["token", "--format", "json", "--min-lifetime", "600"]) == 0
    output = capsys.readouterr()
    shown = json.loads(output.out)
    assert (shown["token"], shown["kind"], shown["expiresAt"]) == (token, "api_key", None)
    assert shown["workspaceId"] == (None if token == "sk-key" else "org-7")
    assert output.err == ""


def test_the_token_of_a_broker_that_has_no_longer_one(
    make_home: MakeHome, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_home()

    async def asked(context: object, min_lifetime: float) -> TokenAnswer:
        return TokenAnswer("at-broker", TokenKind.ACCESS_TOKEN, expires_at=time.time() + min_lifetime / 2)

    monkeypatch.setattr(command, "token_of_broker", asked)
    assert main(["token", "--min-lifetime", "600"]) == 0
    output = capsys.readouterr()
    assert output.out == "at-broker\n"
    told = re.search(r"the token lasts (\d+) s, not the 600 s of --min-lifetime: the broker has no longer", output.err)
    assert told is not None and 200 < int(told[1]) <= 300, "a busy machine takes its time"
