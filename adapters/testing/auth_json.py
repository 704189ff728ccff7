"""The content of auth.json as codex writes it, for tests that fill a home."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def chatgpt_auth_json(tokens: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """Return the content for a ChatGPT login that the issuer gave just now.

    Args:
        tokens: `id_token`, `access_token`, `refresh_token` and `account_id`, as `LoopbackIssuer.seed` returns them.
        others: more members.
    """
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": dict(tokens), "last_refresh": now, **others}


def api_key_auth_json(key: str) -> dict[str, Any]:
    """Return the content for an API key."""
    return {"auth_mode": "apikey", "OPENAI_API_KEY": key}
