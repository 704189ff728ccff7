"""The CODEX_HOME of one history: what is stored there, what another process does to it, and what must not be in it."""

import json
import os
from pathlib import Path
from typing import Any, Final

from authstate.adapters.conformance.held import Key, Managed

UNKNOWN_MEMBER: Final = {"of_a_later_release": {"kept": True}}
"""A member of auth.json that no release knows."""


class Home:
    """A folder with config.toml and auth.json.

    Args:
        folder: an empty folder.
        backend_url: for `chatgpt_base_url`.
    """

    def __init__(self, folder: Path, backend_url: str) -> None:
        self.folder = folder
        self.auth_json: Path = folder / "auth.json"
        self._backend_url = backend_url
        self.configure("")

    def configure(self, line: str) -> None:
        """Write config.toml with one more line."""
        text = f'chatgpt_base_url = "{self._backend_url}"\n{line}\n'
        (self.folder / "config.toml").write_text(text, encoding="utf-8")

    def write(self, content: dict[str, Any] | str | None, mode: int = 0o600) -> None:
        """Store a login as another process does: a new file, or none."""
        if content is None:
            self.auth_json.unlink(missing_ok=True)
            return
        place = self.folder / "auth.json.verify"
        place.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        place.chmod(mode)
        os.replace(place, self.auth_json)

    def text(self) -> str | None:
        """The text of auth.json, or None."""
        try:
            return self.auth_json.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def content(self) -> dict[str, Any]:
        """The members of auth.json. Empty if there is none or if it is no JSON object."""
        try:
            content = json.loads(self.text() or "{}")
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def stored(self) -> Key | Managed | None:
        """The login in auth.json, as the reference model sees it."""
        content = self.content()
        tokens = content.get("tokens")
        if isinstance(tokens, dict) and tokens.get("access_token"):
            refresh, access = str(tokens.get("refresh_token")), str(tokens["access_token"])
            return Managed(refresh, access, str(tokens.get("account_id")), None, None)
        key = content.get("OPENAI_API_KEY")
        return Key(key) if isinstance(key, str) else None

    def is_private(self) -> bool:
        """Whether only its owner can read auth.json. Windows has no such modes."""
        return os.name == "nt" or self.auth_json.stat().st_mode & 0o077 == 0

    def files_with(self, secrets: set[str]) -> dict[str, str]:
        """Each file that holds one of these secrets, by its name in the home, and the secret."""
        found: dict[str, str] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                found |= {str(path.relative_to(self.folder)): one for one in secrets if one.encode() in data}
        return found
