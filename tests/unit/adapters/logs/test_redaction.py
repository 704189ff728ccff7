"""What looks like a secret is removed from text and from values. Prose stays readable."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate.adapters.logs.redaction import HIDDEN, redact, redact_text
from authstate.engine.model.secret import Secret
from authstate.testing import make_jwt

JWT = make_jwt(sub="somebody", email="person@example.com")
KEY = "sk-proj-abcDEF1234567890"
OPAQUE = "Qx7" * 20


@pytest.mark.parametrize("secret", [JWT, JWT.rsplit(".", 1)[0], KEY, OPAQUE, "rt_abcdefgh"])
@pytest.mark.parametrize(
    "text", ["{}", "it said {}.", "Authorization: Bearer {}", "https://h/?x={}&y=1", '{{"a": "{}"}}']
)
def test_text_loses_its_secrets(secret: str, text: str) -> None:
    redacted = redact_text(text.format(secret))
    assert secret not in redacted
    assert HIDDEN in redacted


@pytest.mark.parametrize(
    "text",
    [
        "token=abc",
        "refresh_token=abc&x=1",
        '{"access_token": "abc"}',
        "{'apiKey': 'abc'}",
        "?code=abc&state=abc",
        'api_key="abc"',
        "token='abc'",
        'model_providers.x.secret="abc"',
    ],
)
def test_short_values_are_known_by_their_names(text: str) -> None:
    assert "abc" not in redact_text(text)


def test_prose_stays_readable() -> None:
    text = "your refresh token: it works only once (127.0.0.1:1455, /home/person/.codex/auth.json, status 401)"
    assert redact_text(text) == text


def test_values_lose_their_secrets() -> None:
    class Odd:
        def __repr__(self) -> Any:
            return f"Odd({JWT})"

    value = {
        "access_token": "short",
        "apiKey": "short",
        "Authorization": "short",
        "tokens": {"a": "short"},
        "refreshToken": True,
        "secret": Secret("short"),
        "list": [Secret("short"), JWT, {"id-token": "short"}],
        "bytes": KEY.encode(),
        "error": ValueError(JWT),
        "odd": Odd(),
        "count": 3,
        "path": "/home/person",
        JWT: "key",
    }
    redacted = redact(value)
    text = repr(redacted)
    assert "short" not in text and JWT not in text and KEY not in text
    assert (redacted["count"], redacted["path"], redacted["refreshToken"]) == (3, "/home/person", True)


@pytest.mark.timeout(20)
def test_a_long_text_takes_no_long_time() -> None:
    for part in ("a-", "token", '"', "eyJ", "sk-", "x.", "code="):
        assert redact_text(part * 50_000)


def test_what_holds_itself_ends() -> None:
    loop: list[object] = [JWT]
    loop.append(loop)
    assert JWT not in repr(redact(loop))


@given(st.text(), st.text())
def test_no_surroundings_show_a_jwt(before: Any, after: Any) -> None:
    signature = JWT.rsplit(".", 1)[1]
    payload = JWT.split(".")[1]
    redacted = redact_text(f"{before} {JWT} {after}")
    assert payload not in redacted
    assert signature not in redacted
