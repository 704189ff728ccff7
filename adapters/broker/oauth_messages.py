"""The messages of the broker's OAuth endpoints: what codex and any OAuth client send, and what they understand.

codex sends JSON, and other clients a form (RFC 6749, section 6). Each gets a refusal in the form that it acts on:

    form   400 {"error": "invalid_grant", "error_description": ...}
    JSON   401 {"error": {"code": "refresh_token_invalidated", "message": ...}, "error_description": ...}

With the second one, codex 0.93.0, 0.169.0 and 0.171.0 tell the person to sign in again, and why. To the first one
0.93.0 would show the raw JSON (measured).
"""

from http import HTTPStatus
from urllib.parse import parse_qs

import msgspec

from authstate.adapters.broker.oauth_errors import OAuthError, OAuthRefusal
from authstate.adapters.broker.token_grants import Grant, PresentedToken
from authstate.adapters.confidential import Confidential
from authstate.engine.model.secret import MAX_TOKEN_LENGTH, Secret

LARGEST_BODY = MAX_TOKEN_LENGTH + 16 * 1024
"""Bytes of a request that are read at most."""

_FORM = "application/x-www-form-urlencoded"
_JSON_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"}
_STATUS = {
    OAuthError.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    OAuthError.UNSUPPORTED_GRANT_TYPE: HTTPStatus.BAD_REQUEST,
    OAuthError.INVALID_GRANT: HTTPStatus.BAD_REQUEST,
    OAuthError.SLOW_DOWN: HTTPStatus.TOO_MANY_REQUESTS,
    OAuthError.TEMPORARILY_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    OAuthError.SERVER_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_NOT_REFUSED = ("proactive_expiry", "scheduled", "forced")
_AFTER_401 = "unauthorized_recovery"
_CODEX_INVALID_GRANT = "refresh_token_invalidated"


class OAuthRequest(Confidential, frozen=True):
    """A request to one of the endpoints. Members that it did not have are empty."""

    grant_type: str = ""
    refresh_token: str = ""
    token: str = ""
    client_id: str = ""
    refresh_reason: str = ""


class OAuthAnswer(Confidential, frozen=True):
    """An answer: the status, the body and its headers."""

    status: int
    body: bytes
    headers: dict[str, str]


def read_refresh(body: bytes, content_type: str) -> PresentedToken:
    """Return what a request to the token endpoint presents.

    codex from 0.169.0 on gives a reason in `refresh_reason`. Of the reasons in `_NOT_REFUSED`, none means that the
    backend refused the access token. Without a reason, it may have.

    Raises:
        OAuthRefusal: it is no request, or asks for another grant than `refresh_token`.
    """
    request = _read(body, content_type)
    if request.grant_type != "refresh_token":
        said = "this broker only takes grant_type=refresh_token: sign in at the issuer with `authstate login`"
        raise OAuthRefusal(
            OAuthError.UNSUPPORTED_GRANT_TYPE if request.grant_type else OAuthError.INVALID_REQUEST, said
        )
    token = _present(request.refresh_token, "refresh_token")
    is_old_codex = bool(request.client_id) and not request.refresh_reason and not is_form(content_type)
    return PresentedToken(
        token,
        access_was_refused=request.refresh_reason not in _NOT_REFUSED,
        may_be_late=request.refresh_reason == _AFTER_401,
        writes_in_place=is_old_codex,
    )


def read_revocation(body: bytes, content_type: str) -> Secret:
    """Return the handle or token of a request to the revocation endpoint.

    Raises:
        OAuthRefusal: it is no request, or has no token.
    """
    return _present(_read(body, content_type).token, "token")


def answer_with(grant: Grant, now: float) -> OAuthAnswer:
    """Answer with an access token.

    Args:
        grant: what the client gets.
        now: seconds since the epoch, for `expires_in`.
    """
    members: dict[str, object] = {
        "token_type": "Bearer",
        "access_token": grant.access_token,
        "id_token": grant.id_token,
    }
    if grant.refresh_token is not None:
        members["refresh_token"] = grant.refresh_token
    if grant.expires_at is not None:
        members["expires_in"] = max(0, int(grant.expires_at - now))
    return OAuthAnswer(HTTPStatus.OK, msgspec.json.encode(members), _JSON_HEADERS)


def answer_revoked() -> OAuthAnswer:
    """Answer that the token is of no use any more, as RFC 7009 has it for known and unknown tokens alike."""
    return OAuthAnswer(HTTPStatus.OK, b"{}", _JSON_HEADERS)


def answer_refused(refusal: OAuthRefusal, content_type: str) -> OAuthAnswer:
    """Answer with a refusal, in the form that the client acts on.

    Args:
        refusal: what to say.
        content_type: of the request.
    """
    status, error = _STATUS[refusal.error], str(refusal.error)
    said = refusal.description
    if is_form(content_type):
        members: dict[str, object] = {"error": error, "error_description": said}
    else:
        if refusal.error is OAuthError.INVALID_GRANT:
            status, error = HTTPStatus.UNAUTHORIZED, _CODEX_INVALID_GRANT
        members = {"error": {"code": error, "message": said}, "error_description": said}
    headers = dict(_JSON_HEADERS)
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
    return OAuthAnswer(status, msgspec.json.encode(members), headers)


def is_form(content_type: str) -> bool:
    """Whether a request is form-encoded, as plain OAuth clients send it."""
    return content_type.partition(";")[0].strip().lower() == _FORM


def _read(body: bytes, content_type: str) -> OAuthRequest:
    if len(body) > LARGEST_BODY:
        raise OAuthRefusal(OAuthError.INVALID_REQUEST, f"the request is larger than {LARGEST_BODY} bytes")
    try:
        if not is_form(content_type):
            return msgspec.json.decode(body, type=OAuthRequest)
        members = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=32, errors="strict")
    except msgspec.ValidationError:
        said = "the request is not a JSON object whose members are text: send grant_type and refresh_token"
    except (ValueError, RecursionError):
        said = "the request is neither a form nor a JSON object: send grant_type and refresh_token"
    else:
        if all(len(values) == 1 for values in members.values()):
            return OAuthRequest(*(members.get(name, [""])[0] for name in OAuthRequest.__struct_fields__))
        said = "the request has a parameter twice"
    raise OAuthRefusal(OAuthError.INVALID_REQUEST, said)


def _present(token: str, name: str) -> Secret:
    if not token.strip():
        raise OAuthRefusal(OAuthError.INVALID_REQUEST, f"the request has no {name}: sign in again")
    return Secret(token)
