"""Homes for codex and authstate: a folder whose configuration points to a loopback issuer, with or without a login."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from authstate.adapters.testing import LoopbackIssuer


def fill(
    home: Path,
    issuer: LoopbackIssuer,
    *,
    config: str = "",
    auth: dict[str, Any] | None = None,
    raw: str = "",
    **login: Any,
) -> Path:
    """Make the folder and its config.toml. `login` is that of `LoopbackIssuer.seed`, for a ChatGPT login; `auth` or
    `raw` is what auth.json holds instead. Returns the folder.
    """
    home.mkdir()
    (home / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n{config}')
    if login:
        tokens = issuer.seed(**login)
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        auth = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": now}
    if auth is not None or raw:
        (home / "auth.json").write_text(raw or json.dumps(auth))
        (home / "auth.json").chmod(0o600)
    return home
