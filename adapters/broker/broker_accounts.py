"""The accounts of a vault, each with an engine that is opened when it is needed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authstate.adapters.vault.vault import Vault
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.secret import Secret
from authstate.engine.pool import EnginePool


class BrokerAccounts:
    """Finds accounts and lends their engines.

    Args:
        vault: the accounts.
        pool: an engine for each id.
    """

    def __init__(self, vault: Vault, pool: EnginePool[str]) -> None:
        self.vault = vault
        self.pool = pool

    @asynccontextmanager
    async def engine(self, account: str) -> AsyncIterator[AuthEngine]:
        """Lend the engine of an id, in step with what other processes have stored.

        Raises:
            ConfigError: the vault has no such account.
            StoreUnavailable: the list of accounts cannot be read.
        """
        self.vault.accounts().named(account)
        async with self.pool.engine(account) as engine:
            await engine.follow(adopt=True)
            yield engine

    async def owner_of(self, refresh_token: Secret) -> str | None:
        """Return the id of the account that has, or had, this refresh token. None if no account is known to.

        Raises StoreUnavailable: the list of accounts, or all stores that may have it, cannot be read now.
        """
        fingerprint = fingerprint_of(refresh_token)
        fault: StoreUnavailable | None = None
        for entry in self.vault.accounts().entries:
            store = self.vault.store(entry.id)
            try:
                if await store.claim_on(fingerprint) is not None:
                    return entry.id
                stored = await store.load()
            except StoreUnavailable as unavailable:
                fault = unavailable
                continue
            if isinstance(stored, ChatgptTokens) and stored.refresh_token == refresh_token:
                return entry.id
        if fault is not None:
            raise fault.without_traceback()
        return None
