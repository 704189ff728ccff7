"""The store of the account that a process uses: a pinned one, or whichever is selected in the vault."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authstate.adapters.stores.permissions import Finding
from authstate.adapters.vault.account_stores import findings_of, last_change_of, revision_of
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.ports import CredentialStore, HeldStore, LastChange


class VaultStore:
    """A `CredentialStore` of one account at a time.

    The engine tells when it may follow the selection (`FollowsSelection`): not while a refresh is under way, and not
    while new tokens wait to be stored. So what a refresh brings is stored in the account that it was made for.

    Args:
        vault: the accounts.
        pinned: the nickname or id of the account to use. None: the selected one, now and later.

    Raises:
        ConfigError: there is no such account. The message names those that there are.
        StoreUnavailable: the list of accounts cannot be read.
    """

    def __init__(self, vault: Vault, pinned: str | None = None) -> None:
        self.vault = vault
        self._is_pinned = pinned is not None
        self._account = vault.accounts().named(pinned).id if pinned is not None else _selected(vault)

    @property
    def account(self) -> str:
        """The id of the account in use."""
        return self._account

    def follow_selection(self) -> None:
        """Use the selected account from here on, unless this process is pinned. See `FollowsSelection`."""
        if not self._is_pinned:
            self._account = _selected(self.vault, self._account)

    def describe(self) -> str:
        """Return the place of the account in use."""
        return self._store.describe()

    async def load(self) -> Credentials | None:
        """See `CredentialStore`."""
        return await self._store.load()

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        """See `CredentialStore`."""
        return await self._store.claim_on(fingerprint)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        """See `CredentialStore`. What is held stays that of the same account, whatever is selected meanwhile."""
        account = self._account
        async with self.vault.store(account).locked() as held:
            if account != HOME_ACCOUNT and self.vault.accounts().find(account) is None:
                raise StoreUnavailable(
                    "this account was removed from the vault: `authstate account list` shows those that there are"
                )
            yield held

    def revision(self) -> object:
        """See `HasRevision`. It also changes when another account is selected."""
        revision = revision_of(self._store)
        return None if revision is None else (self.vault.file.revision(), self._account, revision)

    async def last_change(self) -> LastChange | None:
        """See `ReportsLastChange`."""
        return await last_change_of(self._store)

    def findings(self) -> list[Finding]:
        """See `Inspected`."""
        return findings_of(self._store)

    @property
    def _store(self) -> CredentialStore:
        return self.vault.store(self._account)


def _selected(vault: Vault, otherwise: str = HOME_ACCOUNT) -> str:
    """Return the selected id. A list that cannot be read now changes nothing."""
    try:
        return vault.accounts().selected
    except StoreUnavailable:
        return otherwise
