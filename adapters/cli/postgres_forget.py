"""`authstate postgres forget`: removes what nobody can read any more of an account, its login and its leases."""

import argparse
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final

from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error, printable
from authstate.adapters.cli.postgres import open_database
from authstate.adapters.postgres import admin_statements as statements
from authstate.adapters.postgres.admin_database import AdminDatabase
from authstate.adapters.postgres.held_row import HeldRow
from authstate.adapters.postgres.sealed_logins import LoginDamaged, SealedLogin, lease_column
from authstate.adapters.postgres.store import PostgresStore
from authstate.engine.model.errors import StoreUnreadable

_NOTHING: Final = "Nothing was removed."


async def forget(options: argparse.Namespace) -> ExitStatus:
    """Remove a login that nobody can read any more, with all leases of its account.

    If the login can be read, only the leases are removed that nobody can read.

    Returns:
        DONE, or NOT_SIGNED_IN if nothing was removed.

    Raises:
        UsageError: the id of the account has a wrong form.
        StoreBusy: a process holds the row.
        StoreUnavailable: the database cannot be used.
    """
    async with open_database(options) as database:
        store = account_store(database, options.account)
        why_kept = await _forget_login(database, store, options.lost_key)
        if why_kept is None:
            return ExitStatus.DONE
        if unreadable := await _unreadable_leases(database, store, options.lost_key):
            count = await _remove_leases(database, unreadable)
            print(printable(f"Removed {_leases(count)} of {store.describe()} that nobody can read."))
            return ExitStatus.DONE
    return ExitStatus(print_error(why_kept, ExitStatus.NOT_SIGNED_IN))


def account_store(database: AdminDatabase, account: str) -> PostgresStore:
    """Return the store of an account. Raises UsageError: its id has a wrong form."""
    try:
        return database.store(account)
    except ValueError as error:
        raise UsageError(str(error)) from None


async def _forget_login(database: AdminDatabase, store: PostgresStore, lost_key: str | None) -> str | None:
    """Remove the login and the leases of an account, and say so. Returns why not, if they stay."""
    if not await _is_stored(store):
        return f"{store.describe()}: no login is stored there. {_NOTHING}"
    async with store.locked() as held:
        assert isinstance(held, HeldRow)
        if why_kept := await _why_kept(held, store, lost_key):
            return why_kept
        # The leases are first: if this ends in between, it can be repeated.
        rows = await database.fetch_all(statements.LEASES_OF_ACCOUNT, {"account": store.account})
        count = await _remove_leases(database, [row["digest"] for row in rows])
        await held.discard()
    print(printable(f"Removed the login of {store.describe()}, and {_leases(count)}. Sign in to it again."))
    return None


async def _is_stored(store: PostgresStore) -> bool:
    """Whether something is stored. A login that cannot be read is something."""
    try:
        return await store.load() is not None
    except StoreUnreadable:
        return True


async def _why_kept(held: HeldRow, store: PostgresStore, lost_key: str | None) -> str | None:
    """Return why a login must not be removed. None if nobody can read it."""
    try:
        if await _is_lost(held.load(), held.key_id, lost_key):
            return None
    except StoreUnreadable as error:
        return f"{error}. {_NOTHING} If the key {held.key_id} is lost for good, add --lost-key {held.key_id}"
    return (
        f"{store.describe()} can be read with these keys, so it was not removed: sign out of it instead, which also "
        "revokes its tokens"
    )


async def _unreadable_leases(database: AdminDatabase, store: PostgresStore, lost_key: str | None) -> list[str]:
    """The digests of the leases of an account that nobody can read."""
    found = []
    for row in await database.fetch_all(statements.LEASES_OF_ACCOUNT, {"account": store.account}):
        sealed = SealedLogin(row["key_id"], bytes(row["details"]))
        reading = database.logins.unseal(store.account, sealed, lease_column(row["digest"]))
        with suppress(StoreUnreadable):  # its key exists, but not here
            if await _is_lost(reading, sealed.key_id, lost_key):
                found.append(row["digest"])
    return found


async def _is_lost(reading: Awaitable[object], key_id: str | None, lost_key: str | None) -> bool:
    """Whether nobody can read something, because it is damaged, or its key is the one that is lost for good.

    Raises:
        StoreUnreadable: its key is missing or wrong here, and nobody says that it is lost.
    """
    try:
        await reading
    except LoginDamaged:
        return True
    except StoreUnreadable:
        if lost_key is None or key_id != lost_key:
            raise
        return True
    return False


def _leases(count: int) -> str:
    return f"{count} lease{'' if count == 1 else 's'}"


async def _remove_leases(database: AdminDatabase, digests: list[str]) -> int:
    """Remove leases. Brokers hear of it. Returns how many there were."""
    return len(await database.fetch_all(statements.REMOVE_LEASES, {"digests": digests})) if digests else 0
