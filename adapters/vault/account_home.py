"""A home for codex that acts as another account of the vault than the home's own.

    $CODEX_HOME/authstate/homes/ID/     links to what is in the home, and an auth.json with a lease on the account

codex reads and writes its settings, sessions and instructions through the links (measured with 0.93.0, 0.169.0 and
0.171.0). Its databases are not shared: they hold the paths of sessions as seen from one home, and from 0.169.0 on a
session whose path is gone cannot be resumed. The folder stays, so these paths stay valid.

It holds no refresh token. When somebody signs in with codex in such a home, that login is moved into the vault, and a
lease takes its place (codex_login.py): when the command under `authstate run` ends, when a broker is asked for a token
with it, and at the next use of the home.
"""

import os

import msgspec

from authstate.adapters.config.home import ACCOUNT_HOMES
from authstate.adapters.stores.disk import unavailable
from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.adapters.vault.codex_login import store_codex_login
from authstate.adapters.vault.home_account import leased
from authstate.adapters.vault.home_links import link_entries, remove_links
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.placed_key import forget_key, is_noted, note_key
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.lease import LeaseRequest, LeaseState
from authstate.engine.model.credentials import ChatgptTokens, Credentials, StaticCredentials
from authstate.engine.model.errors import NotSignedIn, StoreUnavailable
from authstate.engine.model.lease_handle import LeaseHandle, is_lease
from authstate.engine.model.secret import Secret
from authstate.engine.ports import HeldStore

_LOOKS = 5  # codex may write between two looks


class PreparedHome(msgspec.Struct, frozen=True):
    """A home that can be used."""

    folder: str
    taken_over_by: AccountEntry | None = None
    """The account that has the login which codex had stored here. None if it had stored none."""


class AccountHome:
    """Makes and maintains the home of one account.

    Args:
        vault: of the home.
        leases: of the vault.
        account: the id of an account other than the home's own.
    """

    def __init__(self, vault: Vault, leases: LeaseBook, account: str) -> None:
        self._vault = vault
        self._leases = leases
        self.account = account
        self.folder: str = os.path.join(vault.home, ACCOUNT_HOMES, account)
        self._store = vault.store_of_folder(self.folder)

    async def prepare(self) -> PreparedHome:
        """Make the home, or bring it up to date.

        Raises:
            NotSignedIn: nobody is signed in to the account.
            ConfigError: there are too many leases.
            StoreUnavailable: the home cannot be written, or the login cannot be read now.
        """
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            link_entries(self._vault.home, self.folder)
        except OSError as error:
            raise unavailable("write", self.folder, error) from error
        async with self._store.locked() as held:
            return PreparedHome(self.folder, await self._settle(held))

    async def has_login(self, refresh_token: Secret) -> bool:
        """Whether codex has stored this very token here. What cannot be read now counts as another one."""
        if not os.path.isdir(self.folder):
            return False
        try:
            found = await self._store.load()
        except StoreUnavailable:
            return False
        return isinstance(found, ChatgptTokens) and found.refresh_token == refresh_token

    async def take_over(self) -> AccountEntry | None:
        """Move a login that codex has stored here into the vault, and leave a lease on it. A key stays here, too.

        Returns:
            The account that has it now. None if codex has stored none.

        Raises:
            ConfigError: the account was removed.
            StoreUnavailable: it could not be moved. It is still here.
        """
        if not os.path.isdir(self.folder):
            return None
        async with self._store.locked() as held:
            return await self._take_over(held)

    async def sign_out(self) -> None:
        """Remove the lease or the static key, if there is one. A login that codex stored is moved into the vault first.

        Raises:
            ConfigError: the account was removed.
            StoreUnavailable: it is still there.
        """
        if not os.path.isdir(self.folder):
            return
        async with self._store.locked() as held:
            for _ in range(_LOOKS):
                await self._take_over(held)
                found = await held.load()
                if not _is_login(found) and await self._replace(held, found, None):
                    forget_key(self.folder)
                    return
        raise self._changing()

    async def remove(self) -> list[str]:
        """Remove the home, if there is one: the lease or the static key, the links, and the databases of codex.

        What codex has made for a person here, such as a folder of prompts, is moved to the home.

        Returns:
            The paths of what was not removed, because the home has something else of this name.

        Raises:
            ConfigError: the account was removed.
            StoreUnavailable: the lease or the key is still there.
        """
        await self.sign_out()
        return remove_links(self._vault.home, self.folder) if os.path.isdir(self.folder) else []

    async def _settle(self, held: HeldStore) -> AccountEntry | None:
        """Put a lease, or the static key, where codex expects the login. Return who has what codex had stored there."""
        taken = None
        for _ in range(_LOOKS):
            taken = await self._take_over(held) or taken
            found = await held.load()
            try:
                login = await self._login()
            except NotSignedIn:
                if isinstance(found, StaticCredentials):
                    await self._replace(held, found, None)
                raise
            if await self._replace(held, found, self._wanted(found, login)):
                return taken
        raise self._changing()

    async def _take_over(self, held: HeldStore) -> AccountEntry | None:
        """See `take_over`."""
        for _ in range(_LOOKS):
            found = await held.load()
            if isinstance(found, ChatgptTokens) and _is_login(found):
                entry = await store_codex_login(self._vault, self.account, found, self._store)
                stored = await self._vault.store(entry.id).load()
                login = stored if isinstance(stored, ChatgptTokens) else found
                if await self._replace(held, found, self._leased(login, entry.id)):
                    return entry
            elif isinstance(found, StaticCredentials) and not await self._is_copy(found):
                entry = await store_codex_login(self._vault, self.account, found, self._store)
                self._note(found)
                return entry
            else:
                return None
        raise self._changing()

    def _wanted(self, found: Credentials | None, login: StaticCredentials | ChatgptTokens) -> Credentials | None:
        """What should stand here for a login of the account. A static key cannot be leased: codex needs it itself."""
        if isinstance(login, ChatgptTokens):
            return found if self._is_lease_of(found, login) else self._leased(login, self.account)
        self._note(login)
        return login

    def _note(self, key: StaticCredentials) -> None:
        try:
            note_key(self.folder, key)
        except OSError as error:
            raise unavailable("write", self.folder, error) from error

    async def _is_copy(self, key: StaticCredentials) -> bool:
        """Whether a key was put here for codex. The account may have another one by now, or none."""
        return is_noted(self.folder, key) or key == await self._vault.store(self.account).load()

    async def _replace(self, held: HeldStore, found: Credentials | None, wanted: Credentials | None) -> bool:
        """Write what is wanted, unless codex, which takes no lock, has written meanwhile. Return whether it is here."""
        if not await self._is_still(held, found):
            return False
        if wanted is None:
            await held.delete()
        elif wanted != found:
            await held.save(wanted)
        return True

    async def _is_still(self, held: HeldStore, found: Credentials | None) -> bool:
        return await held.load() == found

    def _changing(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._store.describe()} changes all the time: another program writes it. Try again")

    def _leased(self, login: ChatgptTokens, account: str) -> ChatgptTokens:
        """Return a new lease on the login of an account, as it stands in the home."""
        _, handle = self._leases.make(LeaseRequest(account, login.account, label="authstate run", signs_out=True))
        return leased(login, handle.secret.reveal())

    async def _login(self) -> StaticCredentials | ChatgptTokens:
        stored = await self._vault.store(self.account).load()
        if isinstance(stored, StaticCredentials | ChatgptTokens):
            return stored
        raise NotSignedIn(self._vault.accounts().named(self.account).signed_out_message)

    def _is_lease_of(self, found: Credentials | None, login: ChatgptTokens) -> bool:
        """Whether what stands in the home is a lease on this login that still works."""
        if not isinstance(found, ChatgptTokens):
            return False
        handle = LeaseHandle.parse(found.refresh_token.reveal())
        lease = None if handle is None else self._leases.find(handle)
        return (
            lease is not None
            and lease.state is LeaseState.ACTIVE
            and lease.account == self.account
            and lease.is_for(login.account)
        )


def _is_login(found: Credentials | None) -> bool:
    """Whether this is a ChatGPT login, and not a lease on one."""
    return isinstance(found, ChatgptTokens) and not is_lease(found.refresh_token)
