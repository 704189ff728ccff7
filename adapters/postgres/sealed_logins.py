"""Encrypts logins for a database and decrypts them, with keys that the database knows.

The database keeps a check value for each key that encrypted something. So a wrong key with the right id is noticed
before anything is decrypted or overwritten.
"""

import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from authstate.adapters.postgres import statements
from authstate.adapters.postgres.keys import EncryptionKeys, KeyProvider, KeysInvalid
from authstate.adapters.postgres.sealing import NotDecrypted, seal, unseal
from authstate.engine.model.errors import StoreUnreadable, strip_tracebacks

LOGIN_COLUMN: Final = "login"
"""The place of a login in its account."""
_CHECK_COLUMN: Final = "checked"
_NO_ACCOUNT: Final = ""
_LOAD_AGAIN: Final = 10.0  # seconds


def lease_column(digest: str) -> str:
    """Return the place of the details of a lease: they cannot be moved to another lease.

    Args:
        digest: of its handle.
    """
    return f"lease {digest}"


class RunsStatements(Protocol):
    """Runs one statement: see `PostgresDatabase.fetch`."""

    place: str

    async def fetch(self, statement: str, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return its first row."""
        ...


class SealedLogin(msgspec.Struct, frozen=True):
    """An encrypted login."""

    key_id: str
    data: bytes


class SealedLogins:
    """Encrypts and decrypts the logins of a database.

    Args:
        database: keeps the check values.
        provider: has the keys.
    """

    def __init__(self, database: RunsStatements, provider: KeyProvider) -> None:
        self._database = database
        self._provider = provider
        self._keys: EncryptionKeys | None = None
        self._loaded_at = 0.0
        self._checked: set[str] = set()

    @strip_tracebacks
    async def seal(self, account: str, plaintext: bytes, column: str = LOGIN_COLUMN) -> SealedLogin:
        """Encrypt a login, or another value of an account, with the current key.

        Args:
            account: whose value it is.
            plaintext: the value.
            column: where it is stored: what was encrypted for one place is not decrypted for another.

        Raises:
            StoreUnreadable: the key is another one than what the database knows by this id, or there is no key.
            StoreUnavailable: the database cannot be asked.
        """
        keys = await self._loaded()
        key = await self._checked_key(keys, keys.current)
        return SealedLogin(keys.current, seal(key, keys.current, account, column, plaintext))

    @strip_tracebacks
    async def unseal(self, account: str, sealed: SealedLogin, column: str = LOGIN_COLUMN) -> bytes:
        """Decrypt what `seal` has encrypted.

        Raises:
            StoreUnreadable: its key is missing or wrong, or what is stored was changed.
            StoreUnavailable: the database cannot be asked.
        """
        keys = await self._loaded(sealed.key_id)
        key = await self._checked_key(keys, sealed.key_id)
        try:
            return unseal(key, sealed.key_id, account, column, sealed.data)
        except NotDecrypted:
            repair = "sign in again" if column == LOGIN_COLUMN else "make another one"
            raise LoginDamaged(
                f"the {column} of account {account} in {self._database.place} was changed or truncated, or comes from "
                f"another row: {repair}, or restore the row from a backup"
            ) from None

    @strip_tracebacks
    async def current_key(self) -> str:
        """Return the id of the key that encrypts, after it was loaded and checked. Raises as `seal` does."""
        keys = await self._loaded()
        await self._checked_key(keys, keys.current)
        return keys.current

    async def _loaded(self, wanted: str | None = None) -> EncryptionKeys:
        """The keys, loaded again if one is wanted that is missing. Raises StoreUnreadable."""
        keys = self._keys
        is_missing = keys is None or (wanted is not None and wanted not in keys.ids)
        if keys is None or (is_missing and time.monotonic() - self._loaded_at > _LOAD_AGAIN):
            try:
                keys = self._keys = await self._provider.load()
            except KeysInvalid as error:
                raise StoreUnreadable(str(error)) from None
            self._loaded_at = time.monotonic()
            self._checked = set()  # another key may have a known id now
        return keys

    async def _checked_key(self, keys: EncryptionKeys, key_id: str) -> bytes:
        """The key of an id, after the database confirmed it. Raises StoreUnreadable, StoreUnavailable."""
        key = keys.find(key_id)
        if key is None:
            raise StoreUnreadable(
                f"something in {self._database.place} is encrypted with the key {key_id}, and the keys here are "
                f"{', '.join(keys.ids)}: add that key to the list"
            )
        checked = self._checked  # of these keys: others may be loaded meanwhile
        if key_id not in checked:
            values = {"key_id": key_id, "checked": seal(key, key_id, _NO_ACCOUNT, _CHECK_COLUMN, b"")}
            row = await self._database.fetch(statements.CHECKED_KEY, values)
            try:
                unseal(key, key_id, _NO_ACCOUNT, _CHECK_COLUMN, row["checked"] if row is not None else b"")
            except NotDecrypted:
                raise StoreUnreadable(
                    f"the key {key_id} is not the key that {self._database.place} knows by this id: use the right one, "
                    "or give the new key another id"
                ) from None
            checked.add(key_id)
        return key


class LoginDamaged(StoreUnreadable):
    """What is stored was changed, and its key is the right one. It cannot be read any more, so it may be replaced."""
