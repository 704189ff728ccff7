"""Moves the login of a home into the vault, so that only a lease is left in the home, and back.

    adopt    1. write the login into the vault      the home still has the login: the copy in the vault is not in use
             2. replace the login in the home       one atomic write. From here on the login in the vault counts
                by a lease
    release  1. replace the lease in the home       one atomic write. From here on the login in the home counts
                by the login
             2. remove the login from the vault

A process that is killed between two steps leaves a copy in the vault that nobody uses, because what stands in the home
decides (home_account.py). The next adoption or release removes it. Both steps hold the lock of the home and that of the
folder in the vault, so no refresh is under way meanwhile.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import makedirs

from authstate.adapters.config.home import ConfigError
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT, AccountEntry
from authstate.adapters.vault.home_account import leased
from authstate.adapters.vault.lease_book import LeaseBook, LeaseRequest
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.lease import Lease
from authstate.engine.machines.refresh_claim import RefreshClaim, fingerprint_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, PersonalAccessToken
from authstate.engine.model.errors import NotSignedIn
from authstate.engine.model.lease_handle import LeaseHandle, is_lease
from authstate.engine.ports import CredentialStore, HeldStore

_LABEL = "the home"
_NOBODY = "nobody is signed in: sign in with `authstate login`, then adopt the login"


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

        Returns:
            The lease. None if the home had a lease already.

        Raises:
            NotSignedIn: nobody is signed in.
            ConfigError: the login is static (an API key, a personal access token), has no refresh token, or is a lease
                of another vault.
            StoreUnavailable: nothing has changed.
        """
        makedirs(self._store.folder, mode=0o700, exist_ok=True)
        async with self._both() as (home, vault):
            stored = await home.load()
            if self._store.is_adopted_by(stored):
                if await vault.load() is None:
                    raise NotSignedIn(_NOBODY)
                return None
            tokens = _adoptable(stored, self._store.describe())
            await self._set_aside(vault, tokens)
            await vault.prepare()
            await vault.save(tokens)
            await _copy_claim(self._store.home, vault, tokens)
            lease, handle = self._lease_for(tokens)
            await home.save(leased(tokens, handle.secret.reveal()))
        return lease

    async def release(self) -> bool:
        """Move the login back into the home, and end the lease that stands there.

        Returns:
            Whether the vault had the login.

        Raises StoreUnavailable: nothing has changed, or a copy is left that nobody uses.
        """
        if not self._store.may_be_adopted:
            return False
        async with self._both() as (home, vault):
            stored = await home.load()
            if not self._store.is_adopted_by(stored):
                await self._remove_unused(home, vault)
                return False
            tokens = await vault.load()
            if not isinstance(tokens, ChatgptTokens):
                return False
            await home.save(tokens)
            await _copy_claim(self._store.adopted, home, tokens)
            await vault.delete()
            self._end_lease(stored)
        return True

    @asynccontextmanager
    async def _both(self) -> AsyncIterator[tuple[HeldStore, HeldStore]]:
        """Take both locks, in the order of `HomeAccountStore.locked`."""
        async with self._store.home.locked() as home, self._store.adopted.locked() as vault:
            yield home, vault

    def _lease_for(self, tokens: ChatgptTokens) -> tuple[Lease, LeaseHandle]:
        return self._leases.make(LeaseRequest(HOME_ACCOUNT, tokens.account, label=_LABEL, is_of_home=True))

    def _end_lease(self, stored: object) -> None:
        handle = LeaseHandle.parse(stored.refresh_token.reveal()) if isinstance(stored, ChatgptTokens) else None
        lease = self._leases.find(handle) if handle is not None else None
        if lease is not None:
            self._leases.end(lease.id)

    async def _remove_unused(self, home: HeldStore, vault: HeldStore) -> None:
        """Remove the copy of the login that a killed adoption or release left in the vault."""
        stored, left = await home.load(), await vault.load()
        if isinstance(stored, ChatgptTokens) and isinstance(left, ChatgptTokens) and _is_same(left, stored):
            await vault.delete()

    async def _set_aside(self, vault: HeldStore, tokens: ChatgptTokens) -> None:
        """Keep what the vault still has of the home, if it is somebody else's login: as an account of its own.

        That happens when codex signs somebody in over the lease. What is left of the same account is older than the
        login in the home, which took its place.
        """
        left = await vault.load()
        if isinstance(left, ChatgptTokens) and not _is_same(left, tokens) and not await self._is_in_vault(left):
            entry = self._add_account(left)
            async with self._vault.store(entry.id).locked() as held:
                await held.save(left)
                await _copy_claim(self._store.adopted, held, left)
        if left is not None:
            await vault.delete()

    async def _is_in_vault(self, tokens: ChatgptTokens) -> bool:
        """Whether another account has this refresh token: an adoption was killed after it had set the login aside."""
        for entry in self._vault.accounts().entries:
            stored = await self._vault.store(entry.id).load() if entry.id != HOME_ACCOUNT else None
            if isinstance(stored, ChatgptTokens) and stored.refresh_token == tokens.refresh_token:
                return True
        return False

    def _add_account(self, tokens: ChatgptTokens) -> AccountEntry:
        wish = (tokens.account.email or HOME_ACCOUNT).partition("@")[0]
        return self._vault.add(self._vault.accounts().free_name(wish))


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


def _is_same(left: ChatgptTokens, stored: ChatgptTokens) -> bool:
    """Whether both are logins of the same account."""
    return left.account.is_same_as(stored.account)


async def _copy_claim(source: CredentialStore, target: HeldStore, tokens: ChatgptTokens) -> None:
    """Take along what is known of the refresh token: it may be in doubt, or dead."""
    claim: RefreshClaim | None = await source.claim_on(fingerprint_of(tokens.refresh_token))
    if claim is not None:
        await target.record(claim)
