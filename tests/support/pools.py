"""Accounts for an `EnginePool`: each has a store and an issuer of its own, whose answers can be held back."""

import asyncio
from collections.abc import Callable
from random import Random

from authstate import AuthEngine, EnginePool, Event, PoolSettings, Session
from authstate.engine.model.credentials import Credentials
from authstate.testing import FakeAuthority, ManualClock, MemoryStore


class SlowStore(MemoryStore):
    """A store whose `load` waits for `gate`."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        super().__init__(credentials)
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        """Raised by `load`."""

    async def load(self) -> Credentials | None:
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await super().load()


class WatchedEngine(AuthEngine):
    """An engine that tells when it begins and ends to be open."""

    on_open: Callable[[], None]
    on_close: Callable[[], None]

    async def start(self) -> Session:
        self.on_open()
        try:
            return await super().start()
        except BaseException:
            self.on_close()
            raise

    async def close(self, grace: float = 30.0) -> None:
        await super().close(grace)
        self.on_close()


class Account:
    """What an account has outside of the pool."""

    def __init__(self, name: str, clock: ManualClock, expires_in: float) -> None:
        self.name = name
        self.authority = FakeAuthority(clock=clock, expires_in=expires_in)
        self.store = SlowStore(self.authority.issue(account_id=name))
        self.authority.expires_in = 1e7
        self.fault: Exception | None = None
        """Raised when its engine is made."""
        self.made: list[WatchedEngine] = []
        self.alive = 0
        """Engines between the begin of their start and the end of their close."""


class PoolOfTests(EnginePool[str]):
    """A pool, its clock, and its accounts, which come into being when they are first named."""

    def __init__(self, *, expires_in: float = 3600.0, most_open: int = 1000, refresh_gap: float = 1.0) -> None:
        self.clock = ManualClock()
        self.accounts: dict[str, Account] = {}
        self.events: list[tuple[str, Event]] = []
        self.expires_in = expires_in
        settings = PoolSettings(most_open=most_open, idle_after=600.0, refresh_gap=refresh_gap)
        super().__init__(self._make, clock=self.clock, random=Random(1), settings=settings)
        self.subscribe(lambda account, event: self.events.append((account, event)))

    def account(self, name: str) -> Account:
        if name not in self.accounts:
            self.accounts[name] = Account(name, self.clock, self.expires_in)
        return self.accounts[name]

    def _make(self, name: str) -> AuthEngine:
        account = self.account(name)
        if account.fault is not None:
            raise account.fault
        engine = WatchedEngine(account.store, account.authority, clock=self.clock)

        def opened() -> None:
            account.alive += 1
            assert account.alive == 1, f"two engines of {name} at once"

        def closed() -> None:
            account.alive -= 1

        engine.on_open, engine.on_close = opened, closed
        account.made.append(engine)
        return engine

    async def use(self, name: str) -> str:
        """Borrow the engine, ask it for a token, and give it back."""
        async with self.engine(name) as engine:
            return (await engine.authorization()).token.reveal()

    async def begin_refresh(self, name: str) -> tuple[FakeAuthority, "asyncio.Task[str]"]:
        """Use an account whose token needs a refresh. Returns its issuer, which has been asked and waits for `release`,
        and the task of the caller.
        """
        authority = self.account(name).authority
        authority.hold()
        user = asyncio.create_task(self.use(name))
        await authority.asked()
        return authority, user

    def names_open(self) -> set[str]:
        return {name for name, account in self.accounts.items() if account.alive}
