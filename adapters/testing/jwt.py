"""JSON Web Tokens for tests. Imports only the standard library, so that the loopback issuer starts fast."""

import json
from base64 import urlsafe_b64encode


def make_jwt(**claims: object) -> str:
    """Return a JWT with these claims and a signature that cannot be verified.

    Pass a claim whose name is not an identifier as `make_jwt(**{"https://api.openai.com/auth": {...}})`.
    """
    return ".".join(_part(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims)) + (
        "." + _part(b"no real signature")
    )


def account_claims(
    email: str | None, account_id: str | None, user_id: str | None, plan: str | None
) -> dict[str, object]:
    """Return the claims that identify an account. Those that are None are left out."""
    auth = {"chatgpt_account_id": account_id, "chatgpt_user_id": user_id, "chatgpt_plan_type": plan}
    claims: dict[str, object] = {
        "https://api.openai.com/auth": {name: value for name, value in auth.items() if value is not None}
    }
    if email is not None:
        claims |= {"email": email, "https://api.openai.com/profile": {"email": email}}
    return claims


def _part(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
