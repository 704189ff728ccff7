"""The clients of a process that is a broker: codex children with a lease, and children with the login itself."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from model.simulation.ledger import Ledger
from model.simulation.scheduler import Runner

from authstate.adapters.broker.leases import BookLeases
from authstate.adapters.broker.lends_engines import FindsOwners
from authstate.adapters.broker.oauth_errors import OAuthRefusal
from authstate.adapters.broker.token_grants import Grant, PresentedToken, TokenGrants
from authstate.adapters.broker.token_owners import TokenOwner, leads_to
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.lease import Lease, LeaseRequest
from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.engine.model.secret import Secret
from authstate.engine.ports import Clock, CredentialStore, TokenAuthority


class _OneAccount:
    """The account of the simulated home, as a broker sees it."""

    def __init__(self, engine: AuthEngine, store: CredentialStore) -> None:
        self._engine = engine
        self._store = store

    @asynccontextmanager
    async def engine(self, account: str) -> AsyncIterator[AuthEngine]:
        await self._engine.follow(adopt=True)
        yield self._engine

    @property
    def fault(self) -> StoreUnavailable | None:
        return None

    def how_to_sign_in(self, account: str) -> str:
        return "sign in"

    def home_of(self, account: str) -> str:
        return "/no/such/home"

    async def update_lease_of_home(self) -> None:
        pass

    @property
    def owners(self) -> FindsOwners:
        return self

    def remember(self, account: str, stored: ChatgptTokens) -> TokenOwner:
        return TokenOwner(account, stored.account.digest)

    async def known(self, refresh_token: Secret) -> TokenOwner | None:
        return None

    async def find(self, refresh_token: Secret) -> TokenOwner | None:
        stored = await self._store.load()
        if not isinstance(stored, ChatgptTokens):
            return None
        is_of_it = await leads_to(self._store, fingerprint_of(refresh_token), stored)
        return TokenOwner(HOME_ACCOUNT, stored.account.digest) if is_of_it else None


class LeasedChild:
    """A child with a lease: what stands in its auth.json."""

    def __init__(self, lease: Lease, handle: LeaseHandle, account_id: str | None) -> None:
        self.lease = lease
        self.presents = handle.secret
        self.account_id = account_id
        self.access = ""
        self.is_ended = False


class BrokerClients:
    """The clients of one process.

    Args:
        engine, store, authority, clock: of the process.
        runner: of the process, for the ledger.
        ledger: hears what clients get, and of promises that are broken.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        engine: AuthEngine,
        store: CredentialStore,
        authority: TokenAuthority,
        clock: Clock,
        runner: Runner,
        ledger: Ledger,
        now: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._book = LeaseBook(now=now)
        self._grants = TokenGrants(_OneAccount(engine, store), BookLeases(self._book), authority, clock)
        self._runner = runner
        self._ledger = ledger
        self.children: list[LeasedChild] = []

    def lease(self) -> str:
        """Make a lease on whoever is signed in."""
        account = self._engine.session.account
        if account is None:
            return "nobody to lease"
        lease, handle = self._book.make(LeaseRequest(HOME_ACCOUNT, account))
        self.children.append(LeasedChild(lease, handle, account.account_id))
        return "leased"

    def end(self, child: LeasedChild) -> str:
        """End the lease of a child."""
        self._book.end(child.lease.id)
        child.is_ended = True
        return "ended"

    async def ask(self, child: LeasedChild) -> str:
        """Let a child refresh. It must get a token of its own account, and none after its lease ended."""
        was_ended = child.is_ended
        try:
            is_refused = child.access in self._ledger.refused_access
            grant = await self._grants.refresh(PresentedToken(child.presents, access_was_refused=is_refused))
        except OAuthRefusal as refusal:
            return f"refused: {refusal.error}"
        if was_ended:
            self._ledger.broken(f"{self._runner.name} gives a token to a lease that had ended")
        self._check(grant, child.account_id)
        assert grant.refresh_token is not None
        if grant.refresh_token in self._ledger.grants:
            self._ledger.broken(f"{self._runner.name} gives a refresh token to a lease")
        child.presents, child.access = Secret(grant.refresh_token), grant.access_token
        self._ledger.counts["tokens for leased children"] += 1
        return "has a token"

    async def ask_with_login(self, refresh_token: str) -> str:
        """Let a child of a home that was not adopted refresh, with a token that is or was in auth.json."""
        try:
            is_refused = self._ledger.grants[refresh_token].stored_beside in self._ledger.refused_access
            grant = await self._grants.refresh(PresentedToken(Secret(refresh_token), access_was_refused=is_refused))
        except OAuthRefusal as refusal:
            return f"refused: {refusal.error}"
        if grant.refresh_token is not None:
            self._ledger.broken(f"{self._runner.name} gives a refresh token to a child")
        self._check(grant, None)
        self._ledger.counts["tokens for children with the login"] += 1
        return "has a token"

    def _check(self, grant: Grant, account_id: str | None) -> None:
        self._ledger.handed_out(self._runner, grant.access_token)
        owners = [
            found.account_id for found in self._ledger.grants.values() if found.access_token == grant.access_token
        ]
        if account_id is not None and owners != [account_id]:
            self._ledger.broken(f"{self._runner.name} gives a child of {account_id} a token of {owners}")
