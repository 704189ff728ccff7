"""The vault of a home: several logins, each stored once, in a folder and under a lock of its own.

    $CODEX_HOME/auth.json                          the login that codex knows: the account `home`
    $CODEX_HOME/authstate/accounts.json            ids, nicknames, and which account is selected
    $CODEX_HOME/authstate/accounts/ID/auth.json    another account, in the same format (or its entry in the keyring)
    $CODEX_HOME/authstate/accounts/home/auth.json  the login of the home, once the vault has taken it over
    $CODEX_HOME/authstate/homes/ID/                what codex uses as its home with that account, see account_home.py
    $CODEX_HOME/authstate/leases.json              who may get access tokens from a broker: digests, no handles

A folder of an account is a home as far as the stores are concerned, so it has the same lock, the same refresh claims
and the same protection against crashes. Nothing is ever copied: selecting another account changes one word in
accounts.json.
"""

import os
import secrets

from authstate.adapters.config.home import ACCOUNT_LIST
from authstate.adapters.config.settings import StoreMode
from authstate.adapters.vault.account_stores import store_in
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT, AccountEntry, AccountList, accounts_file
from authstate.adapters.vault.home_account import HomeAccountStore
from authstate.adapters.vault.json_file import JsonFile
from authstate.adapters.vault.lease_book import LeaseBook, lease_of_home
from authstate.engine.clock import SystemClock
from authstate.engine.model.account import Account
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.secret import Secret
from authstate.engine.ports import Clock, CredentialStore

VAULT_FOLDER = "authstate"
"""The folder of the vault, in the home."""
_CONTENT = (ACCOUNT_LIST, "accounts", "leases.json")


class Vault:
    """The accounts of a home.

    Args:
        home: the home folder, absolute.
        mode: the kind of store of every account.
        clock: times the waits of the stores.

    Raises:
        ValueError: the mode keeps credentials in memory, where there can be only one login.
    """

    def __init__(self, home: str | os.PathLike[str], mode: StoreMode, clock: Clock | None = None) -> None:
        if mode is StoreMode.EPHEMERAL:
            raise ValueError("credentials in memory have no vault")
        self.home: str = os.path.abspath(home)
        self.folder: str = os.path.join(self.home, VAULT_FOLDER)
        self.file: JsonFile[AccountList] = accounts_file(self.folder)
        """The list. Read it with `load`."""
        self._mode = mode
        self._clock = clock
        self._stores: dict[str, CredentialStore] = {}

    @staticmethod
    def exists_in(home: str | os.PathLike[str]) -> bool:
        """Whether a home has a vault. If not, its own account is the only one."""
        folder = os.path.join(home, VAULT_FOLDER)
        return any(os.path.exists(os.path.join(folder, name)) for name in _CONTENT)

    def accounts(self) -> AccountList:
        """Return all accounts, the home's first. Raises StoreUnavailable, StoreUnreadable."""
        return self.file.load()

    def store(self, account: str) -> CredentialStore:
        """Return the store of an id. It accesses nothing before its first use. Every call returns the same object."""
        if account not in self._stores:
            self._stores[account] = self._open(account)
        return self._stores[account]

    def account_of(self, store: CredentialStore) -> str:
        """Return the id of the account that `store` was opened for."""
        return next(account for account, opened in self._stores.items() if opened is store)

    @property
    def home_account(self) -> HomeAccountStore:
        """The store of the home's own account."""
        store = self.store(HOME_ACCOUNT)
        assert isinstance(store, HomeAccountStore)
        return store

    def folder_of(self, account: str) -> str:
        """Return the folder of an id inside of the vault. That of the home's account is missing until it is adopted."""
        return os.path.join(self.folder, "accounts", account)

    def add(self, name: str | None = None, *, wish: str | None = None) -> AccountEntry:
        """Add an account in which nobody is signed in yet, and return it.

        Args:
            name: its nickname.
            wish: what the nickname is made of if there is no `name`. By default its id is its nickname, too.

        Raises:
            ConfigError: the nickname is invalid or taken.
            StoreUnavailable: the list cannot be written.
        """
        account = secrets.token_hex(4)

        def added(accounts: AccountList) -> AccountList:
            nickname = name if name is not None else accounts.free_name(wish or account)
            return accounts.with_entry(AccountEntry(account, nickname))

        return self.file.change(added).named(account)

    def check_addable(self, name: str | None = None) -> None:
        """Check that an account can be added: that the list can be written and the nickname is free.

        Raises ConfigError, StoreUnavailable.
        """

        def unchanged(accounts: AccountList) -> AccountList:
            if name is not None:
                accounts.with_entry(AccountEntry(secrets.token_hex(4), name))
            return accounts

        self.file.change(unchanged)

    def rename(self, account: str, name: str) -> None:
        """Give an id another nickname. Raises ConfigError, StoreUnavailable."""
        self.file.change(lambda accounts: accounts.renamed(account, name))

    def select(self, account: str) -> None:
        """Use this id wherever none is named. Raises ConfigError, StoreUnavailable.

        No token moves. Processes that follow the selection act as this account within a second.
        """
        self.file.change(lambda accounts: accounts.selecting(account))

    async def remove(self, account: str) -> None:
        """Remove an id in which nobody is signed in any more. The home's own account stays in the list.

        Raises:
            StoreUnavailable: somebody is still signed in there, or the list cannot be written.

        If the caller is cancelled, the id is removed or is not.
        """
        store = self.store(account)
        async with store.locked() as held:
            if account != HOME_ACCOUNT and await held.load() is not None:
                raise StoreUnavailable(f"{store.describe()} still holds a login: sign out of the account first")
            self.file.change(lambda accounts: accounts.without(account))
        if account != HOME_ACCOUNT:
            import shutil  # imported here: it loads three compressors, and every start of app-server imports this file

            shutil.rmtree(self.folder_of(account), ignore_errors=True)

    def store_of_folder(self, folder: str) -> CredentialStore:
        """Return a new store of a folder, of the same kind as those of the accounts."""
        return store_in(folder, self._mode, self._clock)

    def _open(self, account: str) -> CredentialStore:
        inside = self.store_of_folder(self.folder_of(account))
        if account != HOME_ACCOUNT:
            return inside
        return HomeAccountStore(
            self.store_of_folder(self.home), inside, self.folder_of(HOME_ACCOUNT), self._new_lease_of_home
        )

    def _new_lease_of_home(self, owner: Account) -> Secret:
        """See `HomeAccountStore`."""
        book = LeaseBook(self.folder, now=(self._clock or SystemClock()).now)
        _, handle = book.make(lease_of_home(owner))
        book.end_of_home(besides=handle)
        return handle.secret
