"""Creates the store of one account: a folder, and the kind of store that the configuration selects."""

import os

from authstate.adapters.config.settings import StoreMode
from authstate.adapters.stores.permissions import Finding, Inspected
from authstate.engine.ports import Clock, CredentialStore, HasRevision, LastChange, ReportsLastChange


def store_in(folder: str | os.PathLike[str], mode: StoreMode, clock: Clock | None = None) -> CredentialStore:
    """Create the store of a folder. It accesses nothing before its first use.

    Args:
        folder: the home, or the folder of an account.
        mode: where the credentials are: in the folder, in the keyring, or in memory.
        clock: times the waits.
    """
    if mode is StoreMode.EPHEMERAL:
        from authstate.adapters.stores.memory import MemoryStore

        return MemoryStore()
    if mode is StoreMode.FILE:
        from authstate.adapters.stores.file_store import AuthJsonStore

        return AuthJsonStore(folder, clock=clock)
    from authstate.adapters.stores.keyring import AutoStore, KeyringStore

    kind = KeyringStore if mode is StoreMode.KEYRING else AutoStore
    return kind(folder, clock=clock)


def revision_of(store: CredentialStore) -> object:
    """See `HasRevision`. None for a store that has none."""
    return store.revision() if isinstance(store, HasRevision) else None


async def last_change_of(store: CredentialStore) -> LastChange | None:
    """See `ReportsLastChange`. None for a store that does not report it."""
    return await store.last_change() if isinstance(store, ReportsLastChange) else None


def findings_of(store: CredentialStore) -> list[Finding]:
    """See `Inspected`. Empty for a store that finds nothing."""
    return store.findings() if isinstance(store, Inspected) else []
