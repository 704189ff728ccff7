"""The answers of the JSON API: what they show of an account, a lease and an error."""

from typing import Any

import msgspec
from starlette.responses import Response

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.refusals import refusal_of
from authstate.adapters.config.home import ConfigError
from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.lease import Lease
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ChatgptTokens, StaticCredentials
from authstate.engine.model.errors import (
    AuthError,
    NotSignedIn,
    PermanentRefreshError,
    PolicyViolation,
    StoreUnavailable,
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


async def summary_of(broker: Broker, entry: AccountEntry, selected: str) -> dict[str, Any]:
    """Return what the store says of an account. It opens no engine, so that a list of many accounts costs little."""
    try:
        stored, fault = await broker.vault.store(entry.id).load(), None
    except StoreUnavailable as unavailable:
        stored, fault = None, str(unavailable)
    kind = "chatgpt" if isinstance(stored, ChatgptTokens) else None
    if isinstance(stored, StaticCredentials):
        kind = "api_key"
    return {
        **_names(entry, selected),
        "kind": kind,
        **_owner(stored.account if isinstance(stored, ChatgptTokens) else None),
        "accessTokenExpiresAt": stored.expires_at if isinstance(stored, ChatgptTokens) else None,
        "storeFault": fault,
    }


def session_members(engine: AuthEngine, entry: AccountEntry, selected: str) -> dict[str, Any]:
    """Return what the engine of an account knows."""
    session, failure, fault = engine.session, engine.session.failure, engine.pause_reason
    credentials = session.credentials
    return {
        **_names(entry, selected),
        "state": session.state,
        "authMode": engine.auth_mode,
        **_owner(session.account),
        "accessTokenExpiresAt": credentials.expires_at if isinstance(credentials, ChatgptTokens) else None,
        "failure": {"message": failure.message, "reason": failure.reason} if failure else None,
        "issuerFault": str(fault) if fault is not None else None,
        "storeFault": str(engine.store_fault) if engine.store_fault is not None else None,
    }


def lease_members(lease: Lease) -> dict[str, Any]:
    """Return what may be shown of a lease: everything but the digest of its handle."""
    return {
        "id": lease.id,
        "account": lease.account,
        "label": lease.label,
        "state": lease.state,
        "createdAt": lease.created_at,
        "expiresAt": lease.expires_at,
        "isOfHome": lease.is_of_home,
    }


def _names(entry: AccountEntry, selected: str) -> dict[str, Any]:
    return {"id": entry.id, "name": entry.name, "isSelected": entry.id == selected}


def _owner(account: Account | None) -> dict[str, Any]:
    if account is None:
        return {"email": None, "planType": None, "workspaceId": None}
    return {"email": account.email, "planType": account.plan_type, "workspaceId": account.account_id}
