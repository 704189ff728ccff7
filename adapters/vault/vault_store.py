"""The store of the account that a process uses: a pinned one, or whichever is selected in the vault."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authstate.adapters.stores.permissions import Finding
from authstate.adapters.vault.account_stores import findings_of, last_change_of, revision_of
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.arguments import ensure_instance
from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.ports import CredentialStore, HeldStore, LastChange


class VaultStore:
    """A `CredentialStore` of one account at a time.

    The engine says when to follow the selection (`FollowsSelection`): not while a refresh is under way, and not while
    new tokens wait to be stored. So what a refresh brings is stored in the account that it was made for.

    Args:
        vault: the accounts.
        pinned: the nickname or id of the account to use. None: the selected one, now and later.

    Raises:
        ConfigError: there is no such account. The message names those that there are.
        StoreUnavailable: the list of accounts cannot be read.
        TypeError: the vault is something else.
    """

    def __init__(self, vault: Vault, pinned: str | None = None) -> None:
        ensure_instance(vault, Vault, "vault", "a Vault")
        self.vault = vault
        self._is_pinned = pinned is not None
        self._account = _pinned(vault, pinned) if pinned is not None else vault.accounts().selected

    @property
    def account(self) -> str:
        """The id of the account in use."""
        return self._account

    @property
    def is_pinned(self) -> bool:
        """Whether it keeps its account, whatever is selected."""
        return self._is_pinned

    def selected_store(self) -> CredentialStore | None:
        """See `FollowsSelection`. None for a pinned store."""
        account = self._account if self._is_pinned else _selected(self.vault, self._account)
        return None if account == self._account else self.vault.store(account)

    def use_store(self, store: CredentialStore) -> None:
        """See `FollowsSelection`."""
        self._account = self.vault.account_of(store)

    def describe(self) -> str:
        """Return the place of the account in use."""
        return self._store.describe()

    async def load(self) -> Credentials | None:
        """See `CredentialStore`. Nobody is signed in to an account that was removed."""
        account = self._account
        try:
            return await self.vault.store(account).load()
        except StoreUnavailable:
            if self._is_removed(account):
                return None
            raise

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        """See `CredentialStore`."""
        return await self._store.claim_on(fingerprint)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        """See `CredentialStore`. What is held stays that of the same account, whatever is selected meanwhile."""
        account = self._account
        self._ensure_not_removed(account)  # the lock would make the folder again
        async with self.vault.store(account).locked() as held:
            self._ensure_not_removed(account)
            yield held

    def _ensure_not_removed(self, account: str) -> None:
        if self._is_removed(account):
            raise StoreUnavailable(
                "this account was removed from the vault: `authstate account list` shows those that there are"
            )

    def _is_removed(self, account: str) -> bool:
        """Whether the vault no longer has an account. A list that cannot be read now says nothing."""
        try:
            return account != HOME_ACCOUNT and self.vault.accounts().find(account) is None
        except StoreUnavailable:
            return False

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


def _pinned(vault: Vault, name: str) -> str:
    """Return the id of a name. The home's own account needs no list. Raises ConfigError, StoreUnavailable."""
    try:
        return vault.accounts().named(name).id
    except StoreUnavailable:
        if name == HOME_ACCOUNT:
            return HOME_ACCOUNT
        raise


def _selected(vault: Vault, otherwise: str) -> str:
    """Return the selected id. A list that cannot be read now changes nothing."""
    try:
        return vault.accounts().selected
    except StoreUnavailable:
        return otherwise
