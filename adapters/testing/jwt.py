"""JSON Web Tokens for tests. Only the standard library, because the loopback issuer starts with it."""

import json
from base64 import urlsafe_b64encode


def make_jwt(**claims: object) -> str:
    """A JWT with these claims and a signature that nobody could verify.

    A claim whose name is no identifier goes in as `make_jwt(**{"https://api.openai.com/auth": {...}})`.
    """
    return ".".join(_part(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims)) + (
        "." + _part(b"no real signature")
    )


def account_claims(
    email: str | None, account_id: str | None, user_id: str | None, plan: str | None
) -> dict[str, object]:
    """The claims that name an account; what is None is left out."""
    auth = {"chatgpt_account_id": account_id, "chatgpt_user_id": user_id, "chatgpt_plan_type": plan}
    claims: dict[str, object] = {
        "https://api.openai.com/auth": {name: value for name, value in auth.items() if value is not None}
    }
    if email is not None:
        claims |= {"email": email, "https://api.openai.com/profile": {"email": email}}
    return claims


def _part(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
