"""The store of the home's own account: the home itself, or, once the vault has taken its login over, a folder of the
vault.

`authstate broker adopt` moves the login into the vault and leaves a lease in its place (adoption.py). What stands in
the home decides which of the two counts, and it changes by one atomic write. So at every moment exactly one of them is
in use, and another process finds out under the lock of the home, which every use takes first.
"""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from authstate.adapters.config.home import ConfigError
from authstate.adapters.stores.permissions import Finding
from authstate.adapters.vault.account_stores import findings_of, last_change_of, revision_of
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ChatgptTokens, Credentials, storable_time
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.lease_handle import LeaseHandle, is_lease
from authstate.engine.model.secret import Secret
from authstate.engine.ports import CredentialStore, HeldStore, LastChange

_LOOKS = 3  # an adoption or a release may come between the two reads of a look
_FINAL = (RefreshClaimState.SPENT, RefreshClaimState.DEAD)


class HomeAccountStore:
    """A `CredentialStore` for the login of a home, wherever it is.

    Args:
        home: the store that codex shares.
        adopted: the store in the vault.
        folder: the folder of `adopted`. While it is missing, nothing was ever adopted, and `home` is all there is.
        new_lease: makes a lease for who signed in to the account, which replaces the one in the home. Returns the
            handle. Raises ConfigError, StoreUnavailable.
    """

    def __init__(
        self, home: CredentialStore, adopted: CredentialStore, folder: str, new_lease: Callable[[Account], Secret]
    ) -> None:
        self.home = home
        self.adopted = adopted
        self.folder = folder
        self._new_lease = new_lease

    def describe(self) -> str:
        """Return the place where codex expects the login."""
        return self.home.describe()

    async def load(self) -> Credentials | None:
        """Read the login. See `CredentialStore`.

        A lease without a login in the vault means that nobody is signed in.
        """
        for _ in range(_LOOKS):
            stored = await self.home.load()
            if not self.is_adopted_by(stored):
                return stored
            if (adopted := await self.adopted.load()) is not None:
                return adopted
        return None

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        """See `CredentialStore`. What was recorded before the login was moved still counts.

        A token that is spent or dead in one place is so in both. Otherwise the token may be in doubt.
        """
        of_home = await self.home.claim_on(fingerprint)
        if not self.may_be_adopted:
            return of_home
        found = [claim for claim in (await self.adopted.claim_on(fingerprint), of_home) if claim is not None]
        return next((claim for claim in found if claim.state in _FINAL), found[0] if found else None)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        """Take the lock of the home and, if the vault has the login, that of its folder. See `CredentialStore`."""
        async with self.home.locked() as held_home:
            if not await self.is_adopted_in(held_home):
                yield _HeldHome(held_home, self.adopted) if self.may_be_adopted else held_home
                return
            async with self.adopted.locked() as held:
                yield HeldAdoption(held_home, held, self._new_lease)

    async def update_lease(self) -> None:
        """Bring the lease in the home up to date with the login in the vault. A process that was killed between its two
        writes left it behind. A lease that cannot be updated is no error.

        Raises StoreUnavailable: the home or the vault cannot be read now.
        """
        lease, login = await self.home.load(), await self.adopted.load()
        if not self.is_adopted_by(lease) or _is_up_to_date(lease, login):
            return
        async with self.locked() as held:
            if isinstance(held, HeldAdoption):
                await held.update_lease()

    @property
    def may_be_adopted(self) -> bool:
        """Whether the vault has, or had, the login."""
        return os.path.isdir(self.folder)

    def is_adopted_by(self, stored: Credentials | None) -> bool:
        """Whether what stands in the home means that the vault has the login."""
        return isinstance(stored, ChatgptTokens) and is_lease(stored.refresh_token) and self.may_be_adopted

    async def is_adopted_in(self, held_home: HeldStore) -> bool:
        """Whether the vault has the login, under the lock of the home. An unreadable home counts as its own login."""
        if not self.may_be_adopted:
            return False
        try:
            return self.is_adopted_by(await held_home.load())
        except StoreUnavailable:
            return False

    def revision(self) -> object:
        """See `HasRevision`. None if the home's store has none."""
        of_home = revision_of(self.home)
        if of_home is None or not self.may_be_adopted:
            return of_home
        of_vault = revision_of(self.adopted)
        return None if of_vault is None else (of_home, of_vault)

    async def last_change(self) -> LastChange | None:
        """See `ReportsLastChange`."""
        is_adopted = self.may_be_adopted and self.is_adopted_by(await self.home.load())
        return await last_change_of(self.adopted if is_adopted else self.home)

    def findings(self) -> list[Finding]:
        """See `Inspected`."""
        return findings_of(self.home) + (findings_of(self.adopted) if self.may_be_adopted else [])


class _HeldHome:
    """The login in the home, while its lock is held, beside a copy in the vault that nobody uses.

    Args:
        home: the home.
        unused: the vault, which holds what an adoption left, or what codex signed in over.
    """

    def __init__(self, home: HeldStore, unused: CredentialStore) -> None:
        self._home = home
        self._unused = unused
        self.load = home.load
        self.prepare = home.prepare
        self.save = home.save
        self.record = home.record

    async def delete(self) -> None:
        """Remove the login, and what is left in the vault. Raises StoreUnavailable."""
        async with self._unused.locked() as held:
            await held.delete()
        await self._home.delete()


class HeldAdoption:
    """The login in the vault, while its lock and that of the home are held. The lease in the home is kept up to date.

    Args:
        home: the home, which holds the lease.
        vault: the folder of the vault.
        new_lease: see `HomeAccountStore`.
    """

    def __init__(self, home: HeldStore, vault: HeldStore, new_lease: Callable[[Account], Secret]) -> None:
        self._home = home
        self._vault = vault
        self._new_lease = new_lease
        self._has_lease = True  # in the home; a key takes its place, and a sign-out removes it

    @property
    def _login(self) -> HeldStore:
        """Where the login is."""
        return self._vault if self._has_lease else self._home

    async def load(self) -> Credentials | None:
        """See `HeldStore`."""
        return await self._login.load()

    async def prepare(self) -> None:
        """See `HeldStore`."""
        await self._login.prepare()

    async def save(self, credentials: Credentials) -> None:
        """Save ChatGPT tokens in the vault. An API key goes to the home, because nothing about it can be leased.

        The lease in the home gets the new access token, too. So codex finds it when it starts, and several processes of
        0.169.0 or later take it from there instead of writing it one after the other, which may fail a turn (measured).
        Somebody else who signed in gets another lease in the home, because a lease is for one account. What codex
        signed in over the lease meanwhile stays as it is.

        Raises StoreUnavailable: the old login is still there. A lease that cannot be updated is no error.
        """
        if not self._has_lease:
            await self._home.save(credentials)
            return
        if not isinstance(credentials, ChatgptTokens):
            await self._home.save(credentials)
            self._has_lease = False
            await self._vault.delete()
            return
        await self._vault.save(credentials)
        await self.update_lease()

    async def update_lease(self) -> None:
        """Put the access token of the vault into the lease in the home. A lease that cannot be updated is no error."""
        try:
            lease, credentials = await self._home.load(), await self._vault.load()
            if not isinstance(credentials, ChatgptTokens) or _is_up_to_date(lease, credentials):
                return
            if isinstance(lease, ChatgptTokens) and is_lease(lease.refresh_token):
                is_same = lease.account.is_same_as(credentials.account)
                handle = lease.refresh_token if is_same else self._new_lease(credentials.account)
                if await self._home.load() == lease:  # codex, which takes no lock, may have signed in over it
                    await self._home.save(leased(credentials, handle.reveal()))
        except (StoreUnavailable, ConfigError):
            return

    async def delete(self) -> None:
        """Remove the lease from the home, which signs out, then the login from the vault. Raises StoreUnavailable."""
        await self._home.delete()
        self._has_lease = False
        await self._vault.delete()

    async def record(self, claim: RefreshClaim) -> None:
        """See `HeldStore`."""
        await self._login.record(claim)


def _is_up_to_date(lease: Credentials | None, login: Credentials | None) -> bool:
    """Whether a lease in a home has the access token of the login, and a handle that tells so."""
    if not isinstance(lease, ChatgptTokens) or not isinstance(login, ChatgptTokens):
        return False
    handle = LeaseHandle.parse(lease.refresh_token.reveal())
    is_told = handle is not None and handle.text(login.access_token) == lease.refresh_token
    return is_told and lease.access_token == login.access_token and lease.account.is_same_as(login.account)


def leased(tokens: ChatgptTokens, handle: str) -> ChatgptTokens:
    """Return what stands in a home that has a lease: the same access token, and the handle as the refresh token.

    Args:
        tokens: of the account.
        handle: of the lease, with or without the digest of an earlier access token.

    Raises ValueError: it is not the handle of a lease.
    """
    parsed = LeaseHandle.parse(handle)
    refresh_token = Secret(handle) if parsed is None else parsed.text(tokens.access_token)
    if not is_lease(refresh_token):
        raise ValueError("a home with a lease never receives a refresh token")
    last_refresh = tokens.last_refresh or time.time()  # codex does not use tokens without it (measured)
    return msgspec.structs.replace(tokens, refresh_token=refresh_token, last_refresh=storable_time(last_refresh))
