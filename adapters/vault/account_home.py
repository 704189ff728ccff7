"""A home for codex that acts as another account of the vault than the home's own.

    $CODEX_HOME/authstate/homes/ID/     links to what is in the home, and an auth.json with a lease on the account

codex reads and writes its settings, sessions and instructions through the links (measured with 0.93.0, 0.169.0 and
0.171.0). Its databases are not shared: they hold the paths of sessions as seen from one home, and from 0.169.0 on a
session whose path is gone cannot be resumed. The folder stays, so these paths stay valid.

It holds no refresh token. When somebody signs in with codex in such a home, the next use moves that login into the
vault and puts a lease in its place.
"""

import os
import shutil
from contextlib import suppress

from authstate.adapters.stores.disk import unavailable
from authstate.adapters.vault.adoption import copy_claim
from authstate.adapters.vault.home_account import leased
from authstate.adapters.vault.lease_book import LeaseBook, LeaseRequest
from authstate.adapters.vault.vault import VAULT_FOLDER, Vault
from authstate.engine.machines.lease import LeaseState
from authstate.engine.machines.refresh_claim import RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens, Credentials, StaticCredentials
from authstate.engine.model.errors import NotSignedIn
from authstate.engine.model.lease_handle import LeaseHandle, is_lease

_FILES = ("config.toml", "history.jsonl", "AGENTS.md")
"""What codex or a person creates later. It is linked before it exists, so that it is created in the home."""
_FOLDERS = ("sessions", "archived_sessions")
"""The same for folders. They are made first: codex 0.169.0 cannot create one behind a link (measured)."""
_OWN = (VAULT_FOLDER, "auth", "app-server-control", "app-server-daemon", "tmp", "installation_id", ".tmp", "log")
"""What each home has for itself, by the name before the first dot of a file, or by the name of a folder."""
_OWN_ENDINGS = (".lock", "-wal", "-shm", ".sqlite", "-locks")


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
        self._account = account
        self.folder = os.path.join(vault.folder, "homes", account)
        self._store = vault.store_of_folder(self.folder)

    async def prepare(self) -> str:
        """Make the home, or bring it up to date, and return its folder.

        Raises:
            NotSignedIn: nobody is signed in to the account.
            ConfigError: there are too many leases.
            StoreUnavailable: the home cannot be written, or the login cannot be read now.
        """
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self._link_entries()
        except OSError as error:
            raise unavailable("write", self.folder, error) from error
        async with self._store.locked() as held:
            found = await held.load()
            if isinstance(found, ChatgptTokens) and not is_lease(found.refresh_token):
                await self._move_into_vault(found)
            login = await self._login()
            if not isinstance(login, ChatgptTokens):  # a static key cannot be leased: codex needs the key itself
                if found != login:
                    await held.save(login)
            elif not self._is_lease_of(found, login):
                _, handle = self._leases.make(LeaseRequest(self._account, login.account, label="authstate run"))
                await held.save(leased(login, handle.secret.reveal()))
        return self.folder

    async def sign_out(self) -> None:
        """Remove the lease or the static key, if there is one. Raises StoreUnavailable: it is still there."""
        if os.path.isdir(self.folder):
            async with self._store.locked() as held:
                await held.delete()

    async def remove(self) -> None:
        """Remove the home, if there is one: the lease or the static key, the links, and the databases of codex.

        Raises StoreUnavailable: the lease or the key is still there.
        """
        await self.sign_out()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _link_entries(self) -> None:
        """Link what the home has, and what codex will create there."""
        for name in _FOLDERS:
            os.makedirs(os.path.join(self._vault.home, name), mode=0o700, exist_ok=True)
        names = [name for name in os.listdir(self._vault.home) if not _is_own(name)]
        for name in dict.fromkeys((*_FILES, *names)):
            target, place = os.path.join(self._vault.home, name), os.path.join(self.folder, name)
            if os.path.islink(place) and os.readlink(place) != target and not os.path.exists(place):
                with suppress(FileNotFoundError):
                    os.unlink(place)  # the home was moved
            if not os.path.lexists(place):
                with suppress(FileExistsError):  # another run links it at the same moment
                    os.symlink(target, place)

    async def _move_into_vault(self, tokens: ChatgptTokens) -> None:
        """Store who signed in here. Tokens that the vault has replaced since are what a killed process left here."""
        store = self._vault.store(self._account)
        async with store.locked() as held:
            claim = await store.claim_on(fingerprint_of(tokens.refresh_token))
            if claim is None or claim.state is not RefreshClaimState.SPENT:
                await copy_claim(self._store, held, tokens)  # it may be in doubt, or dead
                await held.save(tokens)

    async def _login(self) -> StaticCredentials | ChatgptTokens:
        stored = await self._vault.store(self._account).load()
        if isinstance(stored, StaticCredentials | ChatgptTokens):
            return stored
        name = self._vault.accounts().named(self._account).name
        raise NotSignedIn(f"nobody is signed in to the account {name}: `authstate login --account {name}`")

    def _is_lease_of(self, found: Credentials | None, login: ChatgptTokens) -> bool:
        """Whether what stands in the home is a lease on this login that still works."""
        if not isinstance(found, ChatgptTokens):
            return False
        handle = LeaseHandle.parse(found.refresh_token.reveal())
        lease = None if handle is None else self._leases.find(handle)
        return (
            lease is not None
            and lease.state is LeaseState.ACTIVE
            and lease.account == self._account
            and lease.is_for(login.account)
        )


def _is_own(name: str) -> bool:
    return name.partition(".")[0] in _OWN or name in _OWN or name.endswith(_OWN_ENDINGS)
