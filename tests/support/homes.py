"""Makes home folders for codex and authstate, with a configuration for a loopback issuer."""

import json
from pathlib import Path
from typing import Any

from authstate.adapters.testing.auth_json import chatgpt_auth_json
from authstate.testing import LoopbackIssuer


def fill(
    home: Path,
    issuer: LoopbackIssuer,
    *,
    config: str = "",
    auth: dict[str, Any] | None = None,
    raw: str = "",
    **login: Any,
) -> Path:
    """Make a home with config.toml and, if there is a login, auth.json.

    Args:
        home: the folder. It must not exist.
        issuer: the issuer that config.toml names.
        config: more lines of config.toml.
        auth: the content of auth.json, instead of a login.
        raw: the text of auth.json, instead of a login.
        login: the arguments of `LoopbackIssuer.seed`, for a ChatGPT login.

    Returns:
        The folder.
    """
    home.mkdir()
    (home / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n{config}')
    if login:
        auth = chatgpt_auth_json(issuer.seed(**login))
    if auth is not None or raw:
        (home / "auth.json").write_text(raw or json.dumps(auth))
        (home / "auth.json").chmod(0o600)
    return home
