"""Reads the claims of a JWT. Its signature is not checked: see credentials.py."""

from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from authstate.engine.model.errors import InvalidCredentials
from authstate.engine.model.secret import MAX_TOKEN_LENGTH

LATEST_TIME = 253_402_300_799.0
"""The end of the year 9999, the last that datetime can show. In seconds since the epoch."""


def read_jwt_claims(token: str, name: str) -> Mapping[str, Any]:
    """The claims of a JWT. Errors call it by `name`.

    Raises:
        InvalidCredentials: it is not a JWT, or its claims are not a JSON object.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise InvalidCredentials(f"the {name} is not a JWT: it is longer than {MAX_TOKEN_LENGTH} characters")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise InvalidCredentials(
            f"the {name} is not a JWT: it must have three parts with dots between them, none empty"
        )
    try:
        claims: object = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        raise InvalidCredentials(f"the {name} is not a JWT: its claims cannot be read") from None
    if not isinstance(claims, dict):
        raise InvalidCredentials(f"the {name} is not a JWT: its claims are not a JSON object")
    return cast("dict[str, Any]", claims)


def expiry_of(token: str) -> float | None:
    """The `exp` of a token in seconds since the epoch. None if the token is opaque or has no `exp`."""
    try:
        exp = read_jwt_claims(token, "access token").get("exp")
    except InvalidCredentials:
        return None
    if isinstance(exp, bool) or not isinstance(exp, int | float) or not 0 < exp <= LATEST_TIME:
        return None
    return float(exp)


def auth_time_of(id_token: str) -> float | None:
    """The `auth_time` of an id token in seconds since the epoch: when the person signed in. None if it has none.

    A refresh does not change it (OpenID Connect Core 12.2).
    """
    try:
        found = read_jwt_claims(id_token, "id token").get("auth_time")
    except InvalidCredentials:
        return None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
