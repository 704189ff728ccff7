"""A broker in memory: a vault whose accounts are in memory, an issuer in memory, and a clock that stands still."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.broker_accounts import BrokerAccounts
from authstate.adapters.broker.leases import BookLeases
from authstate.adapters.broker.oauth_errors import OAuthRefusal
from authstate.adapters.broker.token_grants import Grant, PresentedToken
from authstate.adapters.config.settings import StoreMode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.memory import MemoryStore
from authstate.adapters.vault.accounts_file import accounts_file
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.lease import Lease, LeaseRequest
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.engine.model.secret import Secret
from authstate.engine.pool import EnginePool
from authstate.engine.ports import CredentialStore
from authstate.testing import FakeAuthority, ManualClock

T = TypeVar("T")


class QuickDisk(Disk):
    """The real disk without waits for it."""

    def sync(self, path: str) -> None:
        pass

    def sync_folder(self, folder: str) -> None:
        pass


class MemoryVault(Vault):
    """A vault whose logins are in memory. Its list of accounts is a file.

    Args:
        home: the home.
        stores: by folder. Share them between vaults, as processes share a disk.
    """

    def __init__(self, home: Path, stores: dict[str, MemoryStore] | None = None) -> None:
        super().__init__(home, StoreMode.FILE)
        self.file = accounts_file(self.folder, QuickDisk())
        self._memory: dict[str, MemoryStore] = {} if stores is None else stores

    def store_of_folder(self, folder: str) -> CredentialStore:
        return self._memory.setdefault(folder, MemoryStore())


class BrokerWorld:
    """A broker, its issuer and its vault.

    Args:
        folder: for the files.
        vault: by default one in memory.
    """

    def __init__(self, folder: Path, vault: Vault | None = None) -> None:
        self.clock = ManualClock()
        self.authority = FakeAuthority(clock=self.clock)
        self.stores: dict[str, MemoryStore] = {}
        self.folder = folder
        self.vault = vault or MemoryVault(folder, self.stores)
        self.leases = LeaseBook(now=self.clock.now, monotonic=self.clock.monotonic)
        self.broker = self.another_broker(self.vault)

    def another_broker(self, vault: Vault | None = None) -> Broker:
        """One more process that serves the same vault and the same leases."""
        vault = vault or MemoryVault(self.folder, self.stores)

        def open_engine(account: str) -> AuthEngine:
            return AuthEngine(vault.store(account), self.authority, clock=self.clock)

        pool: EnginePool[str] = EnginePool(open_engine)
        return Broker(BrokerAccounts(vault, pool, self.leases), BookLeases(self.leases), self.authority, self.clock)

    async def store(self, account: str, credentials: Credentials | None) -> None:
        """Store a login as another process does, or remove it."""
        async with self.vault.store(account).locked() as held:
            await (held.delete() if credentials is None else held.save(credentials))

    async def stored(self, account: str = "home") -> ChatgptTokens:
        tokens = await self.vault.store(account).load()
        assert isinstance(tokens, ChatgptTokens)
        return tokens

    async def sign_in(self, account: str = "home", **login: str) -> ChatgptTokens:
        """Sign in with new tokens of the issuer."""
        await self.store(account, tokens := self.authority.issue(**login))
        return tokens

    def lease(
        self, tokens: ChatgptTokens, account: str = "home", *, is_of_home: bool = False
    ) -> tuple[Lease, LeaseHandle]:
        """Make a lease on a login."""
        return self.leases.make(LeaseRequest(account, tokens.account, is_of_home=is_of_home))

    async def ask(self, presented: Secret, broker: Broker | None = None, *, is_refused: bool = True) -> Grant:
        """Ask for a token. Time passes as long as that takes. Raises OAuthRefusal.

        Args:
            presented: a handle or a refresh token.
            broker: by default the first one.
            is_refused: the backend may have refused the access token that the client has.
        """
        token = PresentedToken(presented, access_was_refused=is_refused)
        return await self.finished((broker or self.broker).grants.refresh(token))

    async def refusal(self, presented: Secret, *, is_refused: bool = True) -> OAuthRefusal:
        """Ask for a token that must be refused."""
        try:
            grant = await self.ask(presented, is_refused=is_refused)
        except OAuthRefusal as refusal:
            return refusal
        raise AssertionError(f"it was granted: {grant}")

    async def finished(self, work: Awaitable[T]) -> T:
        """Let time pass until something is done, at most 5 minutes."""
        task = asyncio.ensure_future(work)
        await self.clock.settle()
        for _ in range(600):
            if task.done():
                break
            await self.clock.elapse(0.5)
        return await task

    async def close(self) -> None:
        """Close the broker."""
        await self.finished(self.broker.close())
