"""`authstate token` shows the access token on standard output, and no secret anywhere else."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.homes import fill
from support.leaks import CANARY, assert_clean

from authstate.adapters.cli.main import main
from authstate.adapters.cli.token_formats import TokenAnswer, TokenFormat, TokenKind, format_token
from authstate.engine.model.errors import InvalidCredentials
from authstate.testing import LoopbackIssuer

ASK = ("token", "--min-lifetime", "600", "--format")
BREAK: dict[str, Callable[[LoopbackIssuer], None]] = {
    "nothing": lambda issuer: None,
    "dead": lambda issuer: issuer.revoke(),
    "overloaded": lambda issuer: issuer.behave("refresh", mode="status", status=503, retry_after=60),
    "garbage": lambda issuer: issuer.behave("refresh", mode="garbage"),
    "half an answer": lambda issuer: issuer.behave("refresh", mode="partial"),
}


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as started:
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)
        yield started


def secrets_in(home: Path) -> dict[str, str]:
    """The secrets that are stored, by their names."""
    tokens: dict[str, str] = json.loads((home / "auth.json").read_text())["tokens"]
    return {name: tokens[name] for name in ("access_token", "id_token", "refresh_token")}


@pytest.mark.parametrize("fault", BREAK)
@pytest.mark.parametrize("expires_in", [500, -10])
def test_only_standard_output_has_the_access_token(
    fault: str,
    expires_in: int,
    tmp_path: Path,
    issuer: LoopbackIssuer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = fill(tmp_path / "home", issuer, expires_in=expires_in)
    stored = json.loads((home / "auth.json").read_text()) | {"last_refresh": "2026-01-01T00:00:00Z"}
    (home / "auth.json").write_text(json.dumps(stored))
    monkeypatch.setenv("CODEX_HOME", str(home))
    before = secrets_in(home)
    BREAK[fault](issuer)
    for form in TokenFormat:
        status = main([*ASK, form])
        output, after = capsys.readouterr(), secrets_in(home)
        assert not any(secret in output.err for secret in (*before.values(), *after.values()))
        assert (after["access_token"] in output.out) == (status == 0)
        hidden = {*before.values(), *after.values()} - {after["access_token"]}
        assert not any(secret in output.out for secret in hidden)


@pytest.mark.parametrize("form", TokenFormat)
@pytest.mark.parametrize("bad", [f"{CANARY} {CANARY}", f"{CANARY}\n", f"{CANARY}$"])
def test_a_token_that_cannot_be_printed_is_not_in_the_error(form: TokenFormat, bad: str) -> None:
    for answer in (TokenAnswer(bad, TokenKind.API_KEY), TokenAnswer(CANARY, TokenKind.ACCESS_TOKEN, bad)):
        try:
            assert CANARY in format_token(answer, form)
        except InvalidCredentials as error:
            assert_clean(error)
