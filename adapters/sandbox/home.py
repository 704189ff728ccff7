"""The home of the programs that use a sandbox: a temporary `CODEX_HOME` with a config.toml and, if wanted, a login."""

import json
from pathlib import Path

from authstate.adapters.sandbox.issued_tokens import TokenKind
from authstate.adapters.sandbox.server import RunningSandbox


def fill(home: Path, sandbox: RunningSandbox, signed_in: str | None) -> None:
    """Write config.toml and, for the account that is signed in, auth.json.

    Raises:
        NoSuchThing: there is no such account.
    """
    (home / "config.toml").write_text(sandbox.pointing.config_toml, encoding="utf-8")
    if signed_in is not None:
        with sandbox.state.lock:
            content = sandbox.state.hand_out(sandbox.state.account(signed_in), TokenKind.REFRESH, None)
        place = home / "auth.json"
        place.touch(mode=0o600)
        place.write_text(json.dumps(content), encoding="utf-8")
