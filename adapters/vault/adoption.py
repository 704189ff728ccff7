"""Moves the login of a home into the vault, so that only a lease is left in the home, and back.

    adopt    1. write the login into the vault      the home still has the login: the copy in the vault is not in use
             2. replace the login in the home       one atomic write. From here on the login in the vault counts
                by a lease
    release  1. replace the lease in the home       one atomic write. From here on the login in the home counts
                by the login
             2. remove the login from the vault

A process that is killed between two steps leaves a copy in the vault that nobody uses, because what stands in the home
decides (home_account.py). The next adoption or release removes it. Both steps hold the lock of the home and that of the
folder in the vault, so no refresh of authstate is under way meanwhile. codex takes no lock: what it writes between two
steps is found by one more look, just before the home is replaced.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from authstate.adapters.config.home import ConfigError
from authstate.adapters.stores.disk import Disk, unavailable
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT, AccountEntry
from authstate.adapters.vault.home_account import leased
from authstate.adapters.vault.lease_book import LeaseBook, lease_of_home
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.lease import Lease, LeaseState
from authstate.engine.machines.refresh_claim import RefreshClaim, fingerprint_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials, PersonalAccessToken
from authstate.engine.model.errors import NotSignedIn, StoreBusy, StoreUnavailable
from authstate.engine.model.lease_handle import LeaseHandle, is_lease
from authstate.engine.ports import CredentialStore, HeldStore

_TRIES = 5  # while another program changes the login in the home
_NOBODY = "nobody is signed in to the account home: sign in with `authstate login --account home`, then adopt the login"


class Adoption:
    """Moves the login of one home.

    Args:
        vault: of the home.
        leases: the leases of the vault.
    """

    def __init__(self, vault: Vault, leases: LeaseBook) -> None:
        self._vault = vault
        self._leases = leases
        self._store = vault.home_account

    async def adopt(self) -> Lease | None:
        """Move the login into the vault, and leave a lease without an end in the home.

        If the home has a lease that does not work any more, it gets another one.

        Returns:
            The lease. None if the home had a lease that works.

        Raises:
            NotSignedIn: nobody is signed in.
            ConfigError: the login is static (an API key, a personal access token), has no refresh token, or is a lease
                of another vault.
            StoreUnavailable: nothing has changed, or a copy is left that nobody uses.

        Cancelling it is like ending the process: nothing is lost, and the next adoption completes it.
        """
        if not self._store.may_be_adopted:  # a folder in the vault would make a lease of another vault look adopted
            _adoptable(await self._store.home.load(), self._store.describe())
        async with self._both() as (home, vault):
            for _ in range(_TRIES):
                stored = await home.load()
                if self._store.is_adopted_by(stored):
                    return await self._renew_lease(home, _handle_in(stored), await vault.load())
                tokens = _adoptable(stored, self._store.describe())
                if (lease := await self._move_in(home, vault, tokens)) is not None:
                    return lease
        raise self._changed_all_the_time()

    async def release(self) -> bool:
        """Move the login back into the home, and end the lease that stands there.

        Also removes what an adoption or release that was killed has left in the vault.

        Returns:
            Whether the vault had the login.

        Raises StoreUnavailable: nothing has changed, or a copy is left that nobody uses.

        Cancelling it is like ending the process: nothing is lost, and the next release completes it.
        """
        if not self._store.may_be_adopted:
            return False
        async with self._both() as (home, vault):
            for _ in range(_TRIES):
                stored, tokens = await home.load(), await vault.load()
                if not self._store.is_adopted_by(stored) or not isinstance(tokens, ChatgptTokens):
                    await self._set_aside(vault, stored)
                    self._leases.end_of_home()
                    return False
                if await self._move_out(home, vault, stored, tokens):
                    return True
        raise self._changed_all_the_time()

    @asynccontextmanager
    async def _both(self) -> AsyncIterator[tuple[HeldStore, HeldStore]]:
        """Take both locks, in the order of `HomeAccountStore.locked`."""
        async with self._store.home.locked() as home:
            try:
                Disk().make_folder(self._vault.folder)
            except OSError as error:
                raise unavailable("use the folder", self._vault.folder, error) from error
            async with self._store.adopted.locked() as vault:
                yield home, vault

    async def _move_in(self, home: HeldStore, vault: HeldStore, tokens: ChatgptTokens) -> Lease | None:
        """Do the steps of an adoption. None if another program changed the home meanwhile."""
        await self._set_aside(vault, tokens)
        await copy_claim(self._store.home, vault, tokens)
        await vault.prepare()
        await vault.save(tokens)
        await home.prepare()
        if await home.load() != tokens:
            await vault.delete()
            return None
        lease, handle = self._leases.make(lease_of_home(tokens.account))
        await home.save(leased(tokens, handle.secret.reveal()))
        self._end_other_leases(handle)
        return lease

    async def _move_out(
        self, home: HeldStore, vault: HeldStore, stored: Credentials | None, tokens: ChatgptTokens
    ) -> bool:
        """Do the steps of a release. Return False if another program changed the home meanwhile."""
        await copy_claim(self._store.adopted, home, tokens)
        await home.prepare()
        if await home.load() != stored:
            return False
        await home.save(tokens)
        self._leases.end_of_home()
        await vault.delete()
        return True

    async def _renew_lease(
        self, home: HeldStore, handle: LeaseHandle | None, tokens: Credentials | None
    ) -> Lease | None:
        """Give the home another lease, if the one that stands there yields nothing. None if it works."""
        if not isinstance(tokens, ChatgptTokens):
            raise NotSignedIn(_NOBODY)
        lease = None if handle is None else self._leases.find(handle)
        if (
            lease is not None
            and (lease.state, lease.account) == (LeaseState.ACTIVE, HOME_ACCOUNT)
            and lease.is_for(tokens.account)
        ):
            self._end_other_leases(handle)
            return None
        lease, handle = self._leases.make(lease_of_home(tokens.account))
        await home.save(leased(tokens, handle.secret.reveal()))
        self._end_other_leases(handle)
        return lease

    def _end_other_leases(self, handle: LeaseHandle | None) -> None:
        """End what killed adoptions and releases have left. The next one tries again."""
        with suppress(StoreUnavailable):
            self._leases.end_of_home(besides=handle)

    async def _set_aside(self, vault: HeldStore, stored: Credentials | None) -> None:
        """Remove what the vault still has of the home. Somebody else's login becomes an account of its own.

        That happens when codex signs somebody in over the lease. What is left of the same account is older than the
        login in the home, which took its place. If nobody is signed in to the home, codex signed out of it.

        Args:
            stored: what stands in the home.
        """
        left = await vault.load()
        if left is None:
            return
        is_other = stored is not None and not (isinstance(stored, ChatgptTokens) and _is_same(left, stored))
        if is_other and isinstance(left, ChatgptTokens) and not await self._is_in_vault(left):
            entry = self._add_account(left)
            async with self._vault.store(entry.id).locked() as held:
                await copy_claim(self._store.adopted, held, left)
                await held.save(left)
        await vault.delete()

    async def _is_in_vault(self, tokens: ChatgptTokens) -> bool:
        """Whether another account has this login: an adoption was killed after it had set the login aside.

        The other one may have been refreshed since, so its refresh token tells nothing.
        """
        for entry in self._vault.accounts().entries:
            stored = await self._vault.store(entry.id).load() if entry.id != HOME_ACCOUNT else None
            if isinstance(stored, ChatgptTokens) and _is_same(stored, tokens):
                return True
        return False

    def _add_account(self, tokens: ChatgptTokens) -> AccountEntry:
        wish = (tokens.account.email or HOME_ACCOUNT).partition("@")[0]
        return self._vault.add(self._vault.accounts().free_name(wish))

    def _changed_all_the_time(self) -> StoreBusy:
        return StoreBusy(
            f"another program changes {self._store.describe()} all the time: end the codex processes that use it, then "
            "try again"
        )


def _adoptable(stored: object, place: str) -> ChatgptTokens:
    if isinstance(stored, ApiKey):
        raise ConfigError(f"{place} holds an API key, and a key cannot be leased: every program may use it as it is")
    if isinstance(stored, PersonalAccessToken):
        raise ConfigError(
            f"{place} holds a personal access token, which cannot be leased: every program may use it as it is"
        )
    if not isinstance(stored, ChatgptTokens):
        raise NotSignedIn(_NOBODY)
    if is_lease(stored.refresh_token):
        raise ConfigError(f"{place} holds a lease of another vault: adopt the login where it was made")
    if not stored.can_refresh:
        raise ConfigError(f"{place} holds no refresh token, so there is nothing to protect: sign in again first")
    return stored


def _handle_in(stored: Credentials | None) -> LeaseHandle | None:
    return LeaseHandle.parse(stored.refresh_token.reveal()) if isinstance(stored, ChatgptTokens) else None


def _is_same(left: Credentials, stored: ChatgptTokens) -> bool:
    """Whether both are logins of the same account."""
    return isinstance(left, ChatgptTokens) and left.account.is_same_as(stored.account)


async def copy_claim(source: CredentialStore, target: HeldStore, tokens: ChatgptTokens) -> None:
    """Take along what is known of the refresh token, before the token itself: it may be in doubt, or dead."""
    claim: RefreshClaim | None = await source.claim_on(fingerprint_of(tokens.refresh_token))
    if claim is not None:
        await target.record(claim)
