"""The accounts of a vault, each with an engine that is opened when it is needed."""

import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from authstate.adapters.broker.home_news import HomeNews
from authstate.adapters.broker.served_accounts import Health, Reading, ServedAccount
from authstate.adapters.broker.token_owners import TokenOwners
from authstate.adapters.config.home import ACCOUNT_HOMES
from authstate.adapters.vault.account_states import StoredAccount, read_accounts
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.pool import EnginePool


class BrokerAccounts:
    """A `ServesAccounts`: finds the accounts of a vault and lends their engines.

    Args:
        vault: the accounts.
        pool: an engine for each id.
        leases: of the vault.
    """

    def __init__(self, vault: Vault, pool: EnginePool[str], leases: LeaseBook) -> None:
        self.vault = vault
        self.pool = pool
        self.place: str = vault.home
        self.owners: TokenOwners = TokenOwners(vault, leases)
        """Whose a refresh token is."""

    @property
    def fault(self) -> StoreUnavailable | None:
        """See `LendsEngines`. Each account of a vault has a store of its own, so nothing is known of all of them."""
        return None

    def how_to_sign_in(self, account: str) -> str:
        """See `LendsEngines`."""
        return f"sign in with `authstate login --account {account}`"

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

    async def find(self, name: str | None) -> ServedAccount:
        """See `ServesAccounts`."""
        accounts = self.vault.accounts()
        entry = accounts.named(accounts.selected if name is None else name)
        return ServedAccount(entry, self.vault.store(entry.id).describe(), entry.id == accounts.selected)

    async def names(self, accounts: Collection[str]) -> Mapping[str, str]:
        """See `ServesAccounts`."""
        return self.vault.accounts().names

    async def listed(self) -> list[StoredAccount]:
        """See `ServesAccounts`."""
        return await read_accounts(self.vault)

    async def summary(self) -> Mapping[str, Any]:
        """See `ServesAccounts`."""
        accounts = self.vault.accounts()
        return {"home": self.place, "selectedAccountId": accounts.selected, "accounts": len(accounts.entries)}

    async def health(self) -> Health:
        """See `ServesAccounts`."""
        try:
            self.vault.accounts()
        except StoreUnavailable as fault:
            return Health("unavailable", str(fault))
        return Health()

    async def readings(self) -> list[Reading]:
        """See `ServesAccounts`."""
        readable = "authstate_vault_readable", "1 if the list of accounts can be read, else 0"
        try:
            count = len(self.vault.accounts().entries)
        except StoreUnavailable:
            return [Reading(*readable, 0)]
        return [Reading("authstate_accounts", "Accounts of the vault", count), Reading(*readable, 1)]

    def news(self) -> HomeNews:
        """See `ServesAccounts`."""
        return HomeNews(self.vault.home_account)
