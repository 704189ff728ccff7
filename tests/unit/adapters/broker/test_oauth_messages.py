"""What codex and plain OAuth clients send to the OAuth endpoints, and what they get."""

import json
from typing import Any

import msgspec
import pytest

from authstate.adapters.broker.oauth_errors import OAuthError, OAuthRefusal
from authstate.adapters.broker.oauth_messages import (
    LARGEST_BODY,
    answer_refused,
    answer_revoked,
    answer_with,
    read_refresh,
    read_revocation,
)
from authstate.adapters.broker.token_grants import Grant
from authstate.adapters.oauth.issuer_http import error_code

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
GRANT = Grant("access-1", "id-1", "authstate_lease_1", 1000.0, "home")
CODEX = {"client_id": "app", "grant_type": "refresh_token", "refresh_token": "rt-1"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps({**CODEX, "scope": "openid profile email"}), JSON),  # 0.93.0
        (json.dumps({**CODEX, "refresh_reason": "unauthorized_recovery"}), JSON),  # 0.169.0
        (json.dumps(CODEX), ""),
        ("grant_type=refresh_token&refresh_token=rt-1", FORM),
        ("refresh_token=rt-1&grant_type=refresh_token&client_id=x&scope=", f"{FORM}; charset=UTF-8"),
    ],
)
def test_a_refresh_is_read(body: str, content_type: str) -> None:
    assert read_refresh(body.encode(), content_type).token.reveal() == "rt-1"


@pytest.mark.parametrize(
    ("reason", "was_refused", "may_be_late", "writes_in_place"),
    [
        ("", True, False, True),  # 0.93.0 gives none
        ("unauthorized_recovery", True, True, False),
        ("proactive_expiry", False, False, False),
        ("scheduled", False, False, False),
        ("forced", False, False, False),
    ],
)
def test_the_reason_of_codex_says_what_it_needs(
    reason: str, was_refused: bool, may_be_late: bool, writes_in_place: bool
) -> None:
    members = {**CODEX, "refresh_reason": reason} if reason else CODEX
    presented = read_refresh(json.dumps(members).encode(), JSON)
    assert presented.access_was_refused is was_refused
    assert presented.may_be_late is may_be_late
    assert presented.writes_in_place is writes_in_place


@pytest.mark.parametrize(
    ("body", "content_type", "error", "said"),
    [
        ('{"grant_type": "authorization_code", "code": "x"}', JSON, "unsupported_grant_type", "refresh_token"),
        ("{}", JSON, "invalid_request", "grant_type"),
        ('{"grant_type": "refresh_token"}', JSON, "invalid_request", "no refresh_token"),
        ('{"grant_type": "refresh_token", "refresh_token": "  "}', JSON, "invalid_request", "no refresh_token"),
        ('{"grant_type": "refresh_token", "refresh_token": 7}', JSON, "invalid_request", "members are text"),
        ('{"grant_type": "refresh_token", "refresh_token": null}', JSON, "invalid_request", "members are text"),
        ("[]", JSON, "invalid_request", "not a JSON object"),
        ("[" * 100_000, JSON, "invalid_request", "JSON"),
        ("nonsense", JSON, "invalid_request", "JSON"),
        ("grant_type=refresh_token&refresh_token=a&refresh_token=b", FORM, "invalid_request", "twice"),
        ("&".join(f"x{number}=1" for number in range(100)), FORM, "invalid_request", "form"),
        ("grant_type=refresh_token&refresh_token=" + "x" * LARGEST_BODY, FORM, "invalid_request", "larger"),
    ],
)
def test_a_request_that_is_none_is_refused(body: str, content_type: str, error: str, said: str) -> None:
    with pytest.raises(OAuthRefusal) as refused:
        read_refresh(body.encode(), content_type)
    assert refused.value.error == error
    assert said in refused.value.description


def test_bytes_that_are_no_text_are_refused() -> None:
    for content_type in (JSON, FORM):
        with pytest.raises(OAuthRefusal):
            read_refresh(b"grant_type=\xff\xfe", content_type)


def test_a_revocation_is_read() -> None:
    sent = {"token": "rt-1", "token_type_hint": "refresh_token", "client_id": "app"}
    assert read_revocation(json.dumps(sent).encode(), JSON).reveal() == "rt-1"
    assert read_revocation(b"token=rt-1", FORM).reveal() == "rt-1"
    with pytest.raises(OAuthRefusal, match="no token"):
        read_revocation(b"token_type_hint=refresh_token", FORM)
    assert answer_revoked().status == 200


def test_an_answer_has_what_a_client_expects() -> None:
    answer = answer_with(GRANT, now=400.5)
    assert json.loads(answer.body) == {
        "token_type": "Bearer",
        "access_token": "access-1",
        "id_token": "id-1",
        "refresh_token": "authstate_lease_1",
        "expires_in": 599,
    }
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"


def test_members_that_are_not_known_are_left_out() -> None:
    """codex 0.93.0 stores an empty refresh token (measured)."""
    unknown = msgspec.structs.replace(GRANT, refresh_token=None, expires_at=None)
    assert set(json.loads(answer_with(unknown, 0.0).body)) == {"token_type", "access_token", "id_token"}
    past = msgspec.structs.replace(GRANT, expires_at=10.0)
    assert json.loads(answer_with(past, 20.0).body)["expires_in"] == 0


def refused(error: OAuthError, content_type: str, retry_after: float | None = None) -> tuple[int, Any, dict[str, str]]:
    answer = answer_refused(OAuthRefusal(error, "what to do", retry_after), content_type)
    return answer.status, json.loads(answer.body), answer.headers


def test_codex_is_told_to_sign_in_again_and_a_plain_client_gets_the_form_of_the_rfc() -> None:
    status, members, _ = refused(OAuthError.INVALID_GRANT, JSON)
    assert status == 401
    assert members["error"] == {"code": "refresh_token_invalidated", "message": "what to do"}
    assert members["error_description"] == "what to do"
    status, members, headers = refused(OAuthError.INVALID_GRANT, FORM)
    assert (status, members) == (400, {"error": "invalid_grant", "error_description": "what to do"})
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("content_type", [JSON, FORM])
def test_a_refusal_for_now_says_when_to_ask_again(content_type: str) -> None:
    assert refused(OAuthError.SLOW_DOWN, content_type, 0.2)[0] == 429
    status, members, headers = refused(OAuthError.TEMPORARILY_UNAVAILABLE, content_type, 5.4)
    assert (status, error_code(members), headers["Retry-After"]) == (503, "temporarily_unavailable", "5")
    assert "Retry-After" not in refused(OAuthError.INVALID_REQUEST, content_type)[2]


def test_what_holds_a_token_does_not_show_it() -> None:
    assert "access-1" not in repr(GRANT) + repr(answer_with(GRANT, 0.0))
