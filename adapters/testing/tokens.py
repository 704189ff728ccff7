"""Credentials for tests, with claims that look like the issuer's."""

import time
from itertools import count

from authstate.adapters.testing.jwt import account_claims, make_jwt
from authstate.engine.model.credentials import ChatgptTokens, ExternalTokens

_numbers = count(1)  # formatted with a fixed width, so that the length of a record does not depend on earlier calls


def make_tokens(
    *,
    email: str | None = "person@example.com",
    account_id: str | None = "org-1",
    user_id: str | None = "user-1",
    plan: str | None = "plus",
    expires_in: float | None = 3600.0,
    refresh_token: str | None = None,
    now: float | None = None,
) -> ChatgptTokens:
    """Return the tokens of a ChatGPT login, different from all others that this process made.

    Args:
        email: a claim. None leaves it out, as for the next three.
        account_id: of the workspace.
        user_id: of the person.
        plan: of the workspace.
        expires_in: seconds until the access token's `exp`. Negative: it has expired. None: it has no `exp`.
        refresh_token: by default one that was never used before.
        now: seconds since the epoch, by default the wall clock's.
    """
    number = next(_numbers)
    now = time.time() if now is None else now
    claims = account_claims(email, account_id, user_id, plan)
    return ChatgptTokens.read(
        id_token=make_jwt(**claims, jti=f"id-{number:09}"),
        access_token=make_jwt(**claims, jti=f"access-{number:09}", **_expiry(now, expires_in)),
        refresh_token=f"rt-test-{number}" if refresh_token is None else refresh_token,
        account_id=account_id,
        last_refresh=now,
    )


def make_external_tokens(
    *,
    email: str | None = "person@example.com",
    account_id: str | None = "org-1",
    user_id: str | None = "user-1",
    plan: str | None = "plus",
    expires_in: float | None = 3600.0,
    now: float | None = None,
) -> ExternalTokens:
    """Return tokens, with an id token, as a parent application passes them in.

    Args:
        email: as for `make_tokens`, like all other arguments.
        account_id: of the workspace.
        user_id: of the person.
        plan: of the workspace.
        expires_in: seconds until the access token's `exp`.
        now: seconds since the epoch.
    """
    number = next(_numbers)
    now = time.time() if now is None else now
    claims = account_claims(email, account_id, user_id, plan)
    return ExternalTokens.read(
        access_token=make_jwt(**claims, jti=f"access-{number:09}", **_expiry(now, expires_in)),
        id_token=make_jwt(**claims, jti=f"id-{number:09}"),
        account_id=account_id,
        plan_type=plan,
    )


def _expiry(now: float, expires_in: float | None) -> dict[str, float]:
    return {} if expires_in is None else {"exp": now + expires_in}
