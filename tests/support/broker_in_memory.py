"""A broker of a vault in a folder, with an issuer in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from authstate.adapters.broker.account_events import AccountEvents
from authstate.adapters.broker.account_tokens import make_lease
from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.broker_accounts import BrokerAccounts
from authstate.adapters.broker.leases import BookLeases
from authstate.adapters.config import StoreMode
from authstate.adapters.testing.fake_authority import FakeAuthority
from authstate.adapters.testing.tokens import make_tokens
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.engine.clock import SystemClock
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.pool import EnginePool
from authstate.engine.ports import Clock


class BrokerInMemory:
    """The broker, its issuer, and shortcuts.

    Args:
        home: the folder.
        clock: by default the real one.
    """

    def __init__(self, home: Path, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.home = home
        self.vault = Vault(home, StoreMode.FILE, clock)
        self.authority = FakeAuthority(clock=clock)
        events = AccountEvents()

        def open_account(account: str) -> AuthEngine:
            engine = AuthEngine(self.vault.store(account), self.authority, clock=clock)
            events.follow(account, engine)
            return engine

        self.leases = LeaseBook(self.vault.folder, now=clock.now)
        accounts = BrokerAccounts(self.vault, EnginePool(open_account), self.leases)
        self.broker = Broker(accounts, BookLeases(self.leases), self.authority, clock, events)

    async def store(self, credentials: Credentials | None = None, account: str = "home") -> Credentials:
        """Store credentials in an account; by default tokens that the issuer knows."""
        credentials = credentials or make_tokens()
        if isinstance(credentials, ChatgptTokens):
            self.authority.accept(credentials)
        async with self.vault.store(account).locked() as held:
            await held.save(credentials)
        return credentials

    async def lease(self, account: str | None = None, ttl: float | None = 3600.0, label: str = "") -> str:
        """Make a lease. Returns its handle."""
        made = await make_lease(self.broker, account, ttl, label)
        return made.handle.secret.reveal()


@asynccontextmanager
async def broker_in(home: Path, clock: Clock | None = None) -> AsyncIterator[BrokerInMemory]:
    """A broker whose vault has one account, in which somebody is signed in."""
    made = BrokerInMemory(home, clock)
    await made.store()
    async with made.broker:
        yield made
