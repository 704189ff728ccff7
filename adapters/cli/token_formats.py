"""The forms in which `authstate token` prints a token, for scripts and as the credential helper of other programs."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

from authstate.adapters.confidential import Confidential
from authstate.engine.model.errors import InvalidCredentials, strip_tracebacks
from authstate.engine.model.secret import ensure_header

_PLAIN = re.compile(r"[\w.+/=@%-][\w.+/=@%~-]*", re.ASCII)
"""What a shell leaves as it is, so that it needs no quotes: the env files of docker know none."""


class TokenKind(StrEnum):
    """What a token is."""

    ACCESS_TOKEN = "access_token"
    """Of a ChatGPT login. It expires."""
    API_KEY = "api_key"
    """An API key or a personal access token."""


class TokenAnswer(Confidential, frozen=True):
    """A token that authorizes requests now."""

    token: str
    kind: TokenKind
    workspace_id: str | None = None
    """For the header `chatgpt-account-id`. None if the token needs none."""
    expires_at: float | None = None
    """Seconds since the epoch; None if it does not expire, or if that is not known."""


class TokenFormat(StrEnum):
    """The values of `--format`."""

    BEARER = "bearer"
    JSON = "json"
    HEADER = "header"
    ENV = "env"


@strip_tracebacks
def format_token(answer: TokenAnswer, form: TokenFormat) -> str:
    """Return what is printed, with a newline at its end. It holds the token.

    Raises:
        InvalidCredentials: the token or the workspace has characters that this form cannot carry.
    """
    ensure_header(answer.token, "token")
    ensure_header(answer.workspace_id or "none", "workspace")
    return _FORMATS[form](answer) + "\n"


def _bearer(answer: TokenAnswer) -> str:
    return answer.token


def _json(answer: TokenAnswer) -> str:
    return json.dumps(
        {
            "token": answer.token,
            "kind": answer.kind,
            "expiresAt": None if answer.expires_at is None else _instant(answer.expires_at),
            "workspaceId": answer.workspace_id,
        }
    )


def _header(answer: TokenAnswer) -> str:
    lines = [f"Authorization: Bearer {answer.token}"]
    if answer.workspace_id is not None:
        lines.append(f"chatgpt-account-id: {answer.workspace_id}")
    return "\n".join(lines)


def _env(answer: TokenAnswer) -> str:
    """What is not known is empty, so that no older value stays in a shell."""
    values = {"AUTHSTATE_TOKEN": answer.token, "AUTHSTATE_WORKSPACE_ID": answer.workspace_id or ""}
    if not all(_PLAIN.fullmatch(value) for value in values.values() if value):
        raise InvalidCredentials(
            "the token or the workspace has characters that a shell changes: use --format json or --format header"
        )
    values["AUTHSTATE_TOKEN_EXPIRES_AT"] = "" if answer.expires_at is None else _instant(answer.expires_at)
    return "\n".join(f"{name}={value}" for name, value in values.items())


_FORMATS: dict[TokenFormat, Callable[[TokenAnswer], str]] = {
    TokenFormat.BEARER: _bearer,
    TokenFormat.JSON: _json,
    TokenFormat.HEADER: _header,
    TokenFormat.ENV: _env,
}


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
