"""A home on the loopback issuer, for code that opens its engine itself."""

import json
import os
from pathlib import Path
from typing import Any

from authstate.adapters.testing.auth_json import api_key_auth_json, chatgpt_auth_json
from authstate.adapters.testing.loopback_issuer import LoopbackIssuer


class LoopbackHome:
    """A folder for `CODEX_HOME` whose config.toml names the backend on loopback. Nobody is signed in at first.

    Args:
        path: the folder. It is made if it does not exist.
        issuer: the issuer, which must have been started.
    """

    def __init__(self, path: Path, issuer: LoopbackIssuer) -> None:
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n', encoding="utf-8")
        self.path = path
        """The folder."""
        self.issuer = issuer
        """The issuer."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make codex, authstate or a program of yours use the home and the issuer."""
        return {**self.issuer.environment, "CODEX_HOME": os.fspath(self.path)}

    def sign_in(self, **login: Any) -> None:
        """Sign somebody in, as codex does: write the tokens of a new ChatGPT login into auth.json.

        Args:
            login: as for `LoopbackIssuer.seed`, for example `email`, `account_id` or `expires_in`.
        """
        self._store(chatgpt_auth_json(self.issuer.seed(**login)))

    def sign_in_with_key(self, key: str) -> None:
        """Sign in with an API key. The backend accepts it."""
        self.issuer.register_token(key)
        self._store(api_key_auth_json(key))

    def sign_out(self) -> None:
        """Delete auth.json, as another process would."""
        (self.path / "auth.json").unlink(missing_ok=True)

    def _store(self, record: dict[str, Any]) -> None:
        half = self.path / "auth.json.new"
        half.touch(0o600)
        half.write_text(json.dumps(record), encoding="utf-8")
        half.replace(self.path / "auth.json")
