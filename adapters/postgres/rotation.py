"""Encrypts with the current key what another key encrypts. Engines and brokers may go on meanwhile, and so may another
rotation.

A batch of logins or leases is read, decrypted and encrypted here, and written by one statement. That statement skips
each row that changed since it was read. Whatever is skipped is looked at again in the next pass. Stopping it at any
moment loses nothing, and the next run goes on where it stopped.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from authstate.adapters.postgres import admin_statements as statements
from authstate.adapters.postgres.admin_database import AdminDatabase
from authstate.adapters.postgres.connections import Row
from authstate.adapters.postgres.sealed_logins import LOGIN_COLUMN, LoginDamaged, SealedLogin, lease_column
from authstate.engine.model.errors import StoreUnreadable, strip_tracebacks

_BATCH: Final = 200  # rows: a few hundred kilobytes
_PASSES: Final = 10
"""A process that still encrypts with an old key makes new work for ever."""


class Rotated(msgspec.Struct):
    """What became of one table."""

    done: int = 0
    """How many rows were encrypted anew."""
    damaged: list[str] = msgspec.field(default_factory=list)
    """The account of each row that was changed or truncated, so that nobody can read it."""


class Rotation(msgspec.Struct):
    """What a rotation did."""

    key_id: str
    """The key that encrypts from now on."""
    logins: Rotated = msgspec.field(default_factory=Rotated)
    leases: Rotated = msgspec.field(default_factory=Rotated)
    unreadable: dict[str, str] = msgspec.field(default_factory=dict)
    """Why what a key encrypts cannot be read, by the id of the key: it is missing or wrong here."""
    left: list[str] = msgspec.field(default_factory=list)
    """The ids of other keys that still encrypt a login or a lease. They must be kept."""

    @property
    def done(self) -> int:
        """How many rows were encrypted anew."""
        return self.logins.done + self.leases.done


class _Table(msgspec.Struct, frozen=True):
    """How a table is read and written."""

    read: str
    write: str
    column: Callable[[str], str]
    """Returns the column for which the value of a row is encrypted, by the name of the row."""


_LOGINS: Final = _Table(statements.LOGINS_UNDER_KEY, statements.REPLACE_LOGINS, lambda account: LOGIN_COLUMN)
_LEASES: Final = _Table(statements.LEASES_UNDER_KEY, statements.REPLACE_LEASES, lease_column)


@strip_tracebacks  # a frame has decrypted logins
async def rotate_keys(
    database: AdminDatabase, progress: Callable[[Rotation], None] = lambda rotation: None
) -> Rotation:
    """Encrypt every login and every lease with the current key.

    Args:
        database: with its keys. The first one is the current key.
        progress: is called after each batch.

    Returns:
        What was done. The other keys may be removed if `left` is empty.

    Raises:
        StoreUnreadable: the current key cannot be used here. Nothing was changed.
        StoreUnavailable: the database cannot be asked. What was done stays done.

    It may be cancelled at any time.
    """
    rotation = Rotation(await database.logins.current_key())
    for _ in range(_PASSES):
        rotation.logins.damaged.clear()
        rotation.leases.damaged.clear()
        others = [key_id for key_id in await _others(database, rotation) if key_id not in rotation.unreadable]
        if not others:
            break
        before, skipped = rotation.done, 0
        for key_id in others:
            for table in (_LOGINS, _LEASES):
                skipped += await _rotate_table(database, table, key_id, rotation, progress)
        if rotation.done == before and not skipped:
            break
    rotation.left = await _others(database, rotation)
    return rotation


async def _others(database: AdminDatabase, rotation: Rotation) -> list[str]:
    """The ids of the other keys that encrypt something."""
    rows = await database.fetch_all(statements.OTHER_KEYS, {"current": rotation.key_id})
    return [row["key_id"] for row in rows]


async def _rotate_table(
    database: AdminDatabase, table: _Table, key_id: str, rotation: Rotation, progress: Callable[[Rotation], None]
) -> int:
    """Encrypt anew what one key encrypts in a table. Returns how many rows changed meanwhile, and were skipped."""
    after, skipped = "", 0
    while key_id not in rotation.unreadable:
        wanted = {"key_id": key_id, "after": after, "count": _BATCH}
        rows = await database.fetch_all(table.read, wanted)
        if not rows:
            break
        after = rows[-1]["name"]
        values = await _encrypted_anew(database, table, key_id, rows, rotation)
        if values["names"]:
            written = await database.fetch(table.write, values) or {}
            _rotated(rotation, table).done += written["written"]
            skipped += len(values["names"]) - written["written"]
        progress(rotation)
    return skipped


async def _encrypted_anew(
    database: AdminDatabase, table: _Table, key_id: str, rows: Sequence[Row], rotation: Rotation
) -> dict[str, Any]:
    """The values of a batch for the statement that writes it. Notes what cannot be read."""
    names, versions, anew = [], [], []
    for row in rows:
        account, column = row["account"], table.column(row["name"])
        try:
            plaintext = await database.logins.unseal(account, SealedLogin(key_id, bytes(row["sealed"])), column)
        except LoginDamaged:
            _rotated(rotation, table).damaged.append(account)
            continue
        except StoreUnreadable as error:
            rotation.unreadable[key_id] = str(error)
            break
        sealed = await database.logins.seal(account, plaintext, column)
        names.append(row["name"])
        versions.append(row["version"])
        anew.append(sealed.data)
    values = {"names": names, "versions": versions, "sealed": anew}
    return {**values, "key_id": key_id, "new_key_id": rotation.key_id}


def _rotated(rotation: Rotation, table: _Table) -> Rotated:
    return rotation.leases if table is _LEASES else rotation.logins
