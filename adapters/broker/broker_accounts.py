"""The accounts of a vault, each with an engine that is opened when it is needed."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from authstate.adapters.broker.token_owners import TokenOwners
from authstate.adapters.config.home import ACCOUNT_HOMES
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.pool import EnginePool


class BrokerAccounts:
    """Finds accounts and lends their engines.

    Args:
        vault: the accounts.
        pool: an engine for each id.
        leases: of the vault.
    """

    def __init__(self, vault: Vault, pool: EnginePool[str], leases: LeaseBook) -> None:
        self.vault = vault
        self.pool = pool
        self.owners: TokenOwners = TokenOwners(vault, leases)
        """Whose a refresh token is."""

    def home_of(self, account: str) -> str:
        """Return what codex uses as its home with an account. It need not exist."""
        return self.vault.home if account == HOME_ACCOUNT else os.path.join(self.vault.home, ACCOUNT_HOMES, account)

    async def update_lease_of_home(self) -> None:
        """Bring the lease in the home up to date with the login in the vault. See `HomeAccountStore.update_lease`."""
        with suppress(StoreUnavailable):
            await self.vault.home_account.update_lease()

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
            try:
                yield engine
            finally:
                if engine.store_fault is None and not isinstance(engine.session.credentials, ChatgptTokens):
                    self.owners.forget(account)
