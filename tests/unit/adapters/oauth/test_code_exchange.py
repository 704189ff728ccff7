"""The exchange of an authorization code, over real HTTP on loopback and with the answers that only a mock can give."""

import hashlib
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from authstate.adapters.config import Environment
from authstate.adapters.oauth.code_exchange import exchange_code
from authstate.adapters.oauth.issuer import Issuer, displayable_code, displayable_text
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError, IssuerUnavailable, LoginFailed
from authstate.engine.model.secret import Secret
from authstate.testing import LoopbackIssuer, ManualClock, make_jwt

VERIFIER = "a-verifier-of-more-than-forty-three-characters-0123456789"
CHALLENGE = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDIRECT = "http://localhost:1455/auth/callback"
TOKENS = {"id_token": make_jwt(email="a@b.c"), "access_token": make_jwt(exp=2e9), "refresh_token": "rt_new"}


async def exchange(issuer: Issuer, code: str = "ac_the-code", verifier: str = VERIFIER) -> ChatgptTokens:
    return await exchange_code(
        issuer,
        code=Secret(code),
        redirect_uri=REDIRECT,
        code_verifier=Secret(verifier),
        clock=ManualClock(now=1000),
        timeout=60,
    )


def answering(monkeypatch: pytest.MonkeyPatch, status: int = 200, **response: Any) -> list[httpx.Request]:
    """Lets every issuer answer with this; the requests that it got."""
    requests = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(status, **response)

    real = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **kw: real(transport=httpx.MockTransport(answer), **kw))
    return requests


async def failure(monkeypatch: pytest.MonkeyPatch, status: int, **response: Any) -> AuthError:
    answering(monkeypatch, status, **response)
    with pytest.raises((LoginFailed, IssuerUnavailable)) as raised:
        await exchange(Issuer("https://issuer.example"))
    assert "ac_the-code" not in str(raised.value)
    assert VERIFIER not in str(raised.value)
    assert raised.value.__cause__ is None
    return raised.value


async def test_a_code_becomes_tokens_once(loopback: LoopbackIssuer) -> None:
    loopback.register_code("ac_1", email="new@example.com", code_challenge=CHALLENGE, redirect_uri=REDIRECT)
    tokens = await exchange(Issuer(loopback.url), "ac_1")
    assert (tokens.account.email, tokens.last_refresh) == ("new@example.com", 1000)
    with pytest.raises(LoginFailed, match="invalid_grant") as refused:
        await exchange(Issuer(loopback.url), "ac_1")
    assert refused.value.code == "invalid_grant"


async def test_the_verifier_must_belong_to_the_challenge(loopback: LoopbackIssuer) -> None:
    loopback.register_code("ac_2", code_challenge=CHALLENGE)
    with pytest.raises(LoginFailed):
        await exchange(Issuer(loopback.url), "ac_2", "another")


@pytest.mark.parametrize("mode", ["html", "empty", "huge", "reset", "lost", "garbage", "redirect"])
async def test_an_answer_that_is_none(loopback: LoopbackIssuer, mode: str) -> None:
    loopback.register_code("ac_3")
    loopback.behave("exchange", mode=mode)
    with pytest.raises(IssuerUnavailable, match=r"^127\.0\.0\.1:\d+ "):
        await exchange(Issuer(loopback.url), "ac_3")
    assert "/oauth/elsewhere" not in loopback.stats()["requests"]


async def test_an_issuer_that_hangs(loopback: LoopbackIssuer) -> None:
    loopback.behave("exchange", mode="hang", times=1)
    with pytest.raises(IssuerUnavailable, match=r"within 0\.2 seconds"):
        await exchange_code(
            Issuer(loopback.url), code=Secret("ac"), redirect_uri=REDIRECT, code_verifier=Secret(VERIFIER), timeout=0.2
        )


async def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = answering(monkeypatch, json=TOKENS)
    await exchange(Issuer("https://issuer.example/", "app"))
    assert str(sent[0].url) == "https://issuer.example/oauth/token"
    assert sent[0].headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(sent[0].content.decode()) == {
        "grant_type": ["authorization_code"],
        "code": ["ac_the-code"],
        "redirect_uri": [REDIRECT],
        "client_id": ["app"],
        "code_verifier": [VERIFIER],
    }


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404])
@pytest.mark.parametrize("body", [{"error": "Access_Denied"}, {"error": {"code": "access_denied"}}])
async def test_a_refusal_carries_the_code(monkeypatch: pytest.MonkeyPatch, status: int, body: object) -> None:
    error = await failure(monkeypatch, status, json=body)
    assert isinstance(error, LoginFailed)
    assert error.code == "access_denied"
    assert str(error) == "issuer.example refused the sign-in with the error access_denied: start it again"


@pytest.mark.parametrize(
    ("status", "response"),
    [
        (500, {"json": {"error": "server_error"}}),
        (429, {"json": {"error": "slow_down"}}),
        (400, {"html": "<p>"}),
        (401, {}),
        (400, {"json": {"error": "<script>alert(1)</script> and more"}}),
        (302, {"headers": {"location": "https://elsewhere.example"}, "json": TOKENS}),
        (200, {"json": {**TOKENS, "id_token": "no-jwt"}}),
        (200, {"json": {**TOKENS, "access_token": "two\nlines"}}),
        (200, {"json": {**TOKENS, "refresh_token": " "}}),
        (200, {"json": {"access_token": 1}}),
        (200, {"json": [1]}),
        (200, {"content": b"\xff"}),
    ],
)
async def test_everything_else_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, status: int, response: dict[str, object]
) -> None:
    error = await failure(monkeypatch, status, **response)
    assert isinstance(error, IssuerUnavailable)
    assert "script" not in str(error) and "no-jwt" not in str(error)


def test_the_issuer_of_an_environment() -> None:
    environment = Environment(Path("/home"), issuer="https://issuer.example/", client_id="app")
    assert Issuer.of(environment, "an-ide") == Issuer("https://issuer.example", "app", "an-ide")
    assert Issuer().url == "https://auth.openai.com"


@pytest.mark.parametrize("code", [None, 7, "", " ", "two words", "x" * 65, "é", "a\x00b", ["a"]])
def test_what_is_no_code_is_not_shown(code: object) -> None:
    assert displayable_code(code) is None


def test_words_from_outside_are_one_line_of_text() -> None:
    assert displayable_code(" access_denied ") == "access_denied"
    assert displayable_text("one\r\ntwo\x1b[31m \u202e three") == "one two [31m three"
    assert displayable_text(None) is None
    long = displayable_text("word " * 1000)
    assert long is not None and len(long) <= 301 and long.endswith("…")
