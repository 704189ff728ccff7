"""The keys that encrypt logins in a database: where they come from, and how they are written.

A key has an id, which is stored beside everything that it encrypts. The first key of a list encrypts; all of them
decrypt. So a key is changed in four steps: add a new one at the end of every machine's list, as `authstate postgres
new-key` does; move it to the top of every list; run `authstate postgres rotate-key`; remove the old one.

    # one key in a line: its id, and 32 bytes in base64; the first one encrypts
    2026-11=mJ8p...
    2026-05=Qm1k...
"""

import base64
import binascii
import os
import re
import secrets
import sys
from collections.abc import Mapping
from typing import Final, Protocol

from authstate.adapters.io.child_environment import KEYS_VARIABLE
from authstate.adapters.io.regular_files import read_with_status
from authstate.engine.model.errors import AuthstateError, strip_tracebacks
from authstate.engine.model.secret import Secret

KEY_BYTES: Final = 32
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LARGEST_FILE: Final = 64 * 1024
"""Bytes of a key file, at most."""


class KeysInvalid(AuthstateError):
    """A list of encryption keys cannot be used. The message says where it is and what is wrong; it shows no key."""


class EncryptionKeys:
    """Some keys. The first one encrypts, and all of them decrypt.

    It is a `KeyProvider` of itself.

    Args:
        keys: 32 bytes for each id. An id has letters, digits and `._-`, at most 64.

    Raises:
        KeysInvalid: there is none, an id or a key has another form, or two are the same.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise KeysInvalid("there is no encryption key: make one with `authstate postgres new-key`")
        for name, key in keys.items():
            _ensure_valid(name, key, "the encryption keys")
        self._keys = {name: Secret(base64.b64encode(key).decode()) for name, key in keys.items()}

    @property
    def current(self) -> str:
        """The id of the key that encrypts."""
        return next(iter(self._keys))

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, the one that encrypts first."""
        return tuple(self._keys)

    def find(self, key_id: str) -> bytes | None:
        """Return a key. None if there is none of that id."""
        key = self._keys.get(key_id)
        return None if key is None else base64.b64decode(key.reveal())

    async def load(self) -> "EncryptionKeys":
        """Return itself."""
        return self

    def __repr__(self) -> str:
        return f"EncryptionKeys({', '.join(self.ids)})"

    @classmethod
    @strip_tracebacks
    def parse(cls, text: str, place: str) -> "EncryptionKeys":
        """Read a list of keys: `ID=BASE64` in each line. Empty lines and those with `#` count for nothing.

        Args:
            text: the list.
            place: where it was read, for the messages.

        Raises:
            KeysInvalid: it is not such a list.
        """
        keys: dict[str, bytes] = {}
        for number, entry in enumerate(_entries(text), start=1):
            if not entry or entry.startswith("#"):
                continue
            name, separator, encoded = (part.strip() for part in entry.partition("="))
            where = f"{place}, entry {number}"
            if not separator:
                raise KeysInvalid(f"{where}: expected ID=BASE64, as `authstate postgres new-key` prints it")
            key = _decoded(encoded, where)
            _ensure_valid(name, key, where)
            if name in keys:
                raise KeysInvalid(f"{where}: there are two keys with the id {name}")
            keys[name] = key
        if not keys:
            raise KeysInvalid(f"{place} holds no encryption key: make one with `authstate postgres new-key`")
        return cls(keys)


class KeyProvider(Protocol):
    """Where encryption keys come from: a file, a variable, a key management service."""

    async def load(self) -> EncryptionKeys:
        """Return the keys as they are now.

        Called at the first use of a database, and again, at most once in ten seconds, if something is encrypted with a
        key that is not known: another machine may have a new one already. A service that keeps its keys to itself
        returns data keys that it decrypts here. Raises KeysInvalid. It may be cancelled.
        """
        ...


class KeyFile:
    """A `KeyProvider` that reads a file. On POSIX systems, only its owner may have access to it: this user or root.

    Args:
        path: the file. It has the form of `EncryptionKeys.parse`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = os.path.abspath(path)

    @strip_tracebacks
    async def load(self) -> EncryptionKeys:
        """Read the file. Raises KeysInvalid. Blocks briefly."""
        try:
            data, found = read_with_status(self.path, LARGEST_FILE + 1)
        except OSError as error:
            raise KeysInvalid(f"the encryption keys in {self.path} cannot be read: {error.strerror}") from None
        if sys.platform != "win32" and os.geteuid() and found.st_uid not in (0, os.geteuid()):  # root may use any
            raise KeysInvalid(
                f"the encryption keys in {self.path} belong to user {found.st_uid}, who could replace them: run this "
                f"as that user, or chown {self.path}"
            )
        if os.name == "posix" and found.st_mode & 0o077:
            raise KeysInvalid(f"others have access to the encryption keys in {self.path}: chmod 600 {self.path}")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise KeysInvalid(f"{self.path} is not a list of encryption keys: it is not UTF-8") from None
        if len(data) > LARGEST_FILE:
            raise KeysInvalid(f"{self.path} is not a list of encryption keys: it has more than {LARGEST_FILE} bytes")
        return EncryptionKeys.parse(text, self.path)


class KeyVariable:
    """A `KeyProvider` that reads an environment variable.

    Programs that authstate starts do not get the variable `AUTHSTATE_DATABASE_KEYS`. They do get one of another name,
    unless you take it out of the environment.

    Args:
        name: of the variable. It has the form of `EncryptionKeys.parse`.
        environment: the variables; by default those of this process.
    """

    def __init__(self, name: str = KEYS_VARIABLE, environment: Mapping[str, str] = os.environ) -> None:
        self.name = name
        self._environment = environment

    @strip_tracebacks
    async def load(self) -> EncryptionKeys:
        """Read the variable. Raises KeysInvalid."""
        text = self._environment.get(self.name, "")
        if not text.strip():
            raise KeysInvalid(f"there are no encryption keys: {self.name} is not set")
        return EncryptionKeys.parse(text, self.name)


def new_key() -> tuple[str, str]:
    """Make a key. Returns an id that sorts by date, and the key in base64."""
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%d-") + secrets.token_hex(2), _encoded(secrets.token_bytes(KEY_BYTES))


def _entries(text: str) -> list[str]:
    """Split a list of keys at line breaks and commas. A comma in a comment separates nothing."""
    lines = [line.strip() for line in text.splitlines()]
    return [entry.strip() for line in lines for entry in ([line] if line.startswith("#") else line.split(","))]


def _encoded(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _decoded(encoded: str, where: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise KeysInvalid(f"{where}: the key is not base64") from None


def _ensure_valid(name: str, key: bytes, where: str) -> None:
    if not _ID.fullmatch(name):
        raise KeysInvalid(f"{where}: the id of a key has 1 to 64 letters, digits, dots, dashes and underscores")
    if len(key) != KEY_BYTES:
        raise KeysInvalid(f"{where}: the key {name} has {len(key)} bytes instead of {KEY_BYTES}")
