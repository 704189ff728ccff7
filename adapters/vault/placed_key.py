"""Notes which API key or personal access token authstate has put into the home of an account.

codex needs the key itself there. A key that is noted is a copy, even when the account has another key by now or was
signed out. Any other key is one that somebody has signed in with. The note is a digest, from which the key cannot be
computed.
"""

import hashlib
import os
from contextlib import suppress

from authstate.engine.model.credentials import ApiKey, StaticCredentials

_NOTE = "auth.json.authstate.key"


def note_key(folder: str, key: StaticCredentials) -> None:
    """Note a key, before it is put into the folder. Raises OSError."""
    handle = os.open(os.path.join(folder, _NOTE), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(_digest(key))


def is_noted(folder: str, key: StaticCredentials) -> bool:
    """Whether this key was put into the folder."""
    try:
        with open(os.path.join(folder, _NOTE), encoding="ascii", errors="replace") as file:
            return file.read(128) == _digest(key)
    except OSError:
        return False


def forget_key(folder: str) -> None:
    """Remove the note."""
    with suppress(OSError):
        os.unlink(os.path.join(folder, _NOTE))


def _digest(key: StaticCredentials) -> str:
    secret = key.key if isinstance(key, ApiKey) else key.token
    return hashlib.sha256(secret.reveal().encode()).hexdigest()
