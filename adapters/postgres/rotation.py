"""Encrypts with the current key what another key encrypts. Engines may refresh meanwhile, and so may another rotation.

A batch is read, decrypted and encrypted here, and written by one statement. That statement skips each row that changed
since it was read. Whatever is skipped is looked at again in the next pass. Stopping it at any moment loses nothing, and
the next run goes on where it stopped.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from authstate.adapters.postgres import admin_statements as statements
from authstate.adapters.postgres.admin_database import AdminDatabase
from authstate.adapters.postgres.sealed_logins import LoginDamaged, SealedLogin
from authstate.engine.model.errors import StoreUnreadable, strip_tracebacks

_BATCH: Final = 200  # rows: a few hundred kilobytes
_PASSES: Final = 10
"""A process that still encrypts with an old key makes new work for ever."""


class Rotation(msgspec.Struct):
    """What a rotation did."""

    key_id: str
    """The key that encrypts from now on."""
    done: int = 0
    """How many logins were encrypted anew."""
    damaged: list[str] = msgspec.field(default_factory=list)
    """Accounts whose login was changed or truncated, so that nobody can read it."""
    unreadable: dict[str, str] = msgspec.field(default_factory=dict)
    """Why what a key encrypts cannot be read, by the id of the key: it is missing or wrong here."""
    left: list[str] = msgspec.field(default_factory=list)
    """The ids of other keys that still encrypt a login."""


@strip_tracebacks  # a frame has decrypted logins
async def rotate_keys(
    database: AdminDatabase, progress: Callable[[Rotation], None] = lambda rotation: None
) -> Rotation:
    """Encrypt every login with the current key.

    Args:
        database: with its keys. The first one is the current key.
        progress: is called after each batch.

    Returns:
        What was done. Nothing is left to do if `left` is empty.

    Raises:
        StoreUnreadable: the current key cannot be used here. Nothing was changed.
        StoreUnavailable: the database cannot be asked. What was done stays done.

    It may be cancelled at any time.
    """
    rotation = Rotation(await database.logins.current_key())
    for _ in range(_PASSES):
        rotation.damaged.clear()
        others = await _others(database, rotation)
        if not [key_id for key_id in others if key_id not in rotation.unreadable]:
            break
        before, skipped = rotation.done, 0
        for key_id in others:
            if key_id not in rotation.unreadable:
                skipped += await _rotate_key(database, key_id, rotation, progress)
        if rotation.done == before and not skipped:
            break
    rotation.left = await _others(database, rotation)
    return rotation


async def _others(database: AdminDatabase, rotation: Rotation) -> list[str]:
    """The ids of the other keys that encrypt a login."""
    row = await database.fetch(statements.KEYS_IN_USE, {}) or {}
    return [key_id for key_id in row["keys"] if key_id != rotation.key_id]


async def _rotate_key(
    database: AdminDatabase, key_id: str, rotation: Rotation, progress: Callable[[Rotation], None]
) -> int:
    """Encrypt anew what one key encrypts. Returns how many rows changed meanwhile, and were skipped."""
    after, skipped = "", 0
    while True:
        wanted = {"key_id": key_id, "after": after, "count": _BATCH}
        row = await database.fetch(statements.LOGINS_UNDER_KEY, wanted) or {}
        if not row["accounts"]:
            return skipped
        after = row["accounts"][-1]
        values = await _encrypted_anew(database, key_id, row, rotation)
        if key_id in rotation.unreadable:
            return skipped
        if values["accounts"]:
            written = await database.fetch(statements.REPLACE_ENCRYPTED, values) or {}
            rotation.done += written["written"]
            skipped += len(values["accounts"]) - written["written"]
        progress(rotation)


async def _encrypted_anew(
    database: AdminDatabase, key_id: str, row: Mapping[str, Any], rotation: Rotation
) -> dict[str, Any]:
    """The values of a batch for the statement that writes it. Notes what cannot be read."""
    accounts, versions, logins = [], [], []
    for account, version, login in zip(row["accounts"], row["versions"], row["logins"], strict=True):
        try:
            plaintext = await database.logins.unseal(account, SealedLogin(key_id, bytes(login)))
        except LoginDamaged:
            rotation.damaged.append(account)
            continue
        except StoreUnreadable as error:
            rotation.unreadable[key_id] = str(error)
            break
        sealed = await database.logins.seal(account, plaintext)
        accounts.append(account)
        versions.append(version)
        logins.append(sealed.data)
    values = {"accounts": accounts, "versions": versions, "logins": logins}
    return {**values, "key_id": key_id, "new_key_id": rotation.key_id}
