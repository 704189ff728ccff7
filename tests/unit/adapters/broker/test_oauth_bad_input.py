"""The messages of the OAuth endpoints: what codex and other clients send, and what nobody should."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate.adapters.broker.oauth_errors import OAuthError, OAuthRefusal
from authstate.adapters.broker.oauth_messages import (
    LARGEST_BODY,
    OAuthRequest,
    answer_refused,
    answer_revoked,
    answer_with,
    is_form,
    read_refresh,
    read_revocation,
)
from authstate.adapters.broker.token_grants import Grant

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
OF_0_93 = {"client_id": "app", "grant_type": "refresh_token", "refresh_token": "rt-1", "scope": "openid profile email"}
OF_0_169 = {"client_id": "app", "grant_type": "refresh_token", "refresh_token": "rt-1", "refresh_reason": "scheduled"}


def refused(body: bytes, content_type: str) -> OAuthRefusal:
    with pytest.raises(OAuthRefusal) as refusal:
        read_refresh(body, content_type)
    assert len(refusal.value.description) < 200
    return refusal.value


# Requests


@pytest.mark.parametrize("members", [OF_0_93, OF_0_169, {"grant_type": "refresh_token", "refresh_token": "rt-1"}])
@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8", "", "text/plain"])
def test_what_codex_sends_is_understood(members: dict[str, str], content_type: str) -> None:
    assert read_refresh(json.dumps(members).encode(), content_type).token.reveal() == "rt-1"


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=utf-8", FORM.upper(), f" {FORM}"])
def test_what_other_clients_send_is_understood(content_type: str) -> None:
    body = b"grant_type=refresh_token&refresh_token=rt%2D1&client_id=app&scope="
    assert is_form(content_type)
    assert read_refresh(body, content_type).token.reveal() == "rt-1"


def test_revocations_are_understood() -> None:
    body = {"token": "rt-1", "token_type_hint": "refresh_token", "client_id": "app"}
    assert read_revocation(json.dumps(body).encode(), JSON).reveal() == "rt-1"
    assert read_revocation(b"token=rt-1&token_type_hint=refresh_token", FORM).reveal() == "rt-1"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", JSON),
        (b"[]", JSON),
        (b"null", JSON),
        (b"{", JSON),
        (b'"rt-CaNaRy"', JSON),
        (b'{"grant_type": "refresh_token", "refresh_token": 7}', JSON),
        (b'{"grant_type": "refresh_token", "refresh_token": ["rt-CaNaRy"]}', JSON),
        (b'{"grant_type": "refresh_token", "refresh_token": null}', JSON),
        (b'{"grant_type": "refresh_token", "refresh_token": "\\ud800"}', JSON),
        (b'{"grant_type": "refresh_token", "refresh_token": "rt-CaNaRy\xff"}', JSON),
        ('{"grant_type": "refresh_token", "refresh_token": "rt-CaNaRy"}'.encode("utf-16"), JSON),
        (b'{"a":' * 100_000, JSON),
        (b"[" * 100_000, JSON),
        (json.dumps(OF_0_93).encode(), FORM),
        (b"grant_type=refresh_token&refresh_token=rt-CaNaRy", JSON),
        (b"grant_type=refresh_token&refresh_token=rt-CaNaRy", "multipart/form-data; boundary=x"),
        (b"grant_type=refresh_token&refresh_token=rt-CaNaRy&refresh_token=rt-2", FORM),
        (b"grant_type=refresh_token&refresh_token=&refresh_token=rt-CaNaRy", FORM),
        (b"grant_type=refresh_token&refresh_token=rt-CaNaRy&scope=a&scope=b", FORM),
        (b"grant_type=refresh_token&refresh_token=", FORM),
        (b"grant_type=refresh_token&refresh_token=%20", FORM),
        (b"grant_type=refresh_token&refresh_token=rt-CaNaRy%ff", FORM),
        (b"grant_type=refresh_token&refresh_token=rt-CaNaRy\xff", FORM),
        (b"&".join(b"a%d=1" % number for number in range(40)), FORM),
        (b"", FORM),
    ],
)
def test_what_is_no_request_is_refused_and_not_repeated(body: bytes, content_type: str) -> None:
    refusal = refused(body, content_type)
    assert refusal.error is OAuthError.INVALID_REQUEST
    assert "CaNaRy" not in refusal.description
    assert refusal.__cause__ is None
    with pytest.raises(OAuthRefusal):
        read_revocation(body, content_type)


@pytest.mark.parametrize("content_type", [JSON, FORM])
def test_ten_megabytes_are_refused(content_type: str) -> None:
    refusal = refused(b"x" * 10_000_000, content_type)
    assert (refusal.error, str(LARGEST_BODY) in refusal.description) == (OAuthError.INVALID_REQUEST, True)


@pytest.mark.parametrize("grant_type", ["authorization_code", "password", "client_credentials", "REFRESH_TOKEN"])
def test_other_grants_are_refused_by_their_name(grant_type: str) -> None:
    for body, content_type in (
        (json.dumps({"grant_type": grant_type, "refresh_token": "rt-1"}).encode(), JSON),
        (f"grant_type={grant_type}&code=1".encode(), FORM),
    ):
        assert refused(body, content_type).error is OAuthError.UNSUPPORTED_GRANT_TYPE


@given(body=st.binary(max_size=200), content_type=st.sampled_from((JSON, FORM, "", "text/html", "\x00")))
def test_any_bytes_are_understood_or_refused(body: bytes, content_type: str) -> None:
    for read in (lambda: read_refresh(body, content_type).token, lambda: read_revocation(body, content_type)):
        try:
            assert read().reveal().strip()
        except OAuthRefusal as refusal:
            assert refusal.error in (OAuthError.INVALID_REQUEST, OAuthError.UNSUPPORTED_GRANT_TYPE)


@given(token=st.text(min_size=1, max_size=50))
def test_any_text_that_json_can_carry_comes_whole(token: str) -> None:
    body = json.dumps({"grant_type": "refresh_token", "refresh_token": token}).encode()
    try:
        assert read_refresh(body, JSON).token.reveal() == token
        token.encode()
    except OAuthRefusal:
        assert not token.strip() or any("\ud800" <= letter <= "\udfff" for letter in token)


def test_a_request_shows_no_token() -> None:
    assert "rt-1" not in repr(OAuthRequest("refresh_token", "rt-1", "rt-1"))


# Answers


def test_a_grant_is_answered_as_an_issuer_does() -> None:
    answer = answer_with(Grant("access", "id", "handle", 100.0, "home"), 40.5)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "token_type": "Bearer",
        "access_token": "access",
        "id_token": "id",
        "refresh_token": "handle",
        "expires_in": 59,
    }
    assert answer.headers["Cache-Control"] == "no-store"
    assert "access" not in repr(answer)


def test_what_is_not_known_is_left_out() -> None:
    """`"refresh_token": ""` would be stored by codex 0.93.0, 0.169.0 and 0.171.0 (measured)."""
    members = json.loads(answer_with(Grant("access", "id", None, None, "home"), 0.0).body)
    assert members == {"token_type": "Bearer", "access_token": "access", "id_token": "id"}
    assert json.loads(answer_with(Grant("a", "i", None, 10.0, "home"), 99.0).body)["expires_in"] == 0


def test_a_revocation_is_always_done() -> None:
    assert (answer_revoked().status, answer_revoked().body) == (200, b"{}")


@pytest.mark.parametrize(
    ("error", "of_form", "of_json", "code"),
    [
        ("invalid_request", 400, 400, "invalid_request"),
        ("unsupported_grant_type", 400, 400, "unsupported_grant_type"),
        ("invalid_grant", 400, 401, "refresh_token_invalidated"),
        ("slow_down", 429, 429, "slow_down"),
        ("temporarily_unavailable", 503, 503, "temporarily_unavailable"),
        ("server_error", 500, 500, "server_error"),
    ],
)
def test_each_client_gets_the_refusal_that_it_acts_on(error: str, of_form: int, of_json: int, code: str) -> None:
    refusal = OAuthRefusal(OAuthError(error), "what happened")
    form, of_codex = answer_refused(refusal, FORM), answer_refused(refusal, JSON)
    assert (form.status, json.loads(form.body)) == (of_form, {"error": error, "error_description": "what happened"})
    expected = {"error": {"code": code, "message": "what happened"}, "error_description": "what happened"}
    assert (of_codex.status, json.loads(of_codex.body)) == (of_json, expected)
    assert "Retry-After" not in form.headers


@pytest.mark.parametrize(("seconds", "header"), [(0.25, "1"), (1.0, "1"), (4.6, "5")])
def test_a_pause_is_told_in_whole_seconds(seconds: float, header: str) -> None:
    answer = answer_refused(OAuthRefusal(OAuthError.SLOW_DOWN, "slow", retry_after=seconds), JSON)
    assert answer.headers["Retry-After"] == header
