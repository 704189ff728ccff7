"""The answers of the JSON API: what they show of an error and of a running account. See shown_members.py, too."""

from typing import Any

import msgspec
from starlette.responses import Response

from authstate.adapters.broker.refusals import refusal_of
from authstate.adapters.broker.shown_members import name_members, owner_members
from authstate.adapters.config.home import ConfigError
from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import (
    AuthError,
    NotSignedIn,
    PermanentRefreshError,
    PolicyViolation,
)


class ApiFault(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        code: for a program.
        message: for a person, without secrets.
        retry_after: seconds after which it is worth trying again.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def answer(self) -> Response:
        """Return the answer."""
        answer = json_answer({"error": {"code": self.code, "message": self.message}}, self.status)
        if self.retry_after is not None:
            answer.headers["Retry-After"] = str(max(1, round(self.retry_after)))
        return answer


def fault_of(error: ApiFault | AuthError | ConfigError) -> ApiFault:
    """Return what to answer for an error."""
    if isinstance(error, ApiFault):
        return error
    if isinstance(error, ConfigError):
        return ApiFault(400, "invalid_request", str(error))
    if isinstance(error, PermanentRefreshError):
        return ApiFault(409, "refresh_dead", str(error))
    if isinstance(error, NotSignedIn):
        return ApiFault(409, "not_signed_in", str(error))
    if isinstance(error, PolicyViolation):
        return ApiFault(403, "forbidden_by_policy", str(error))
    return ApiFault(503, "unavailable", str(error), refusal_of(error).retry_after)


def json_answer(members: object, status: int = 200) -> Response:
    """Return an answer with JSON, which nobody keeps."""
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(members) + b"\n", status, headers, media_type="application/json")


def session_members(engine: AuthEngine, entry: AccountEntry, *, is_selected: bool) -> dict[str, Any]:
    """Return what the engine of an account knows."""
    session, failure, fault = engine.session, engine.session.failure, engine.pause_reason
    credentials = session.credentials
    return {
        **name_members(entry),
        "isSelected": is_selected,
        "state": session.state,
        "authMode": engine.auth_mode,
        **owner_members(session.account),
        "accessTokenExpiresAt": credentials.expires_at if isinstance(credentials, ChatgptTokens) else None,
        "failure": {"message": failure.message, "reason": failure.reason} if failure else None,
        "issuerFault": str(fault) if fault is not None else None,
        "storeFault": str(engine.store_fault) if engine.store_fault is not None else None,
    }
