"""An engine where people sign in, what it told, and what must be true of that at any moment."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from authstate.adapters.testing import FakeAuthority, ManualClock, MemoryStore, make_external
from authstate.engine.core import AuthEngine
from authstate.engine.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.events import AccountUpdated, AuthMode, Event, LoginCompleted
from authstate.engine.login import LoginAttempt
from authstate.engine.ports import HeldStore

KEY = ApiKey.parse("sk-model")
EXTERNAL = make_external()


class GatedStore:
    """A store whose writes wait at a gate."""

    def __init__(self, gate: Callable[[str], Awaitable[None]]) -> None:
        self.inner = MemoryStore()
        self.gate = gate

    def describe(self) -> str:
        return self.inner.describe()

    async def load(self) -> Credentials | None:
        return await self.inner.load()

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        async with self.inner.locked() as held:
            yield GatedHeld(self, held)


class GatedHeld:
    """The store while it is locked."""

    def __init__(self, store: GatedStore, inner: HeldStore) -> None:
        self.store = store
        self.inner = inner

    async def load(self) -> Credentials | None:
        return await self.inner.load()

    async def prepare(self) -> None:
        await self.inner.prepare()

    async def save(self, credentials: Credentials) -> None:
        await self.store.gate("save")
        await self.inner.save(credentials)

    async def delete(self) -> None:
        await self.store.gate("delete")
        await self.inner.delete()


class World:
    """An engine, what it told, and what must be true of that at any moment."""

    def __init__(self, gate: Callable[[str], Awaitable[None]]) -> None:
        self.clock = ManualClock()
        self.store = GatedStore(gate)
        self.authority = FakeAuthority(clock=self.clock)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)
        self.attempts: dict[str, LoginAttempt] = {}
        self.tokens: dict[str, ChatgptTokens] = {}

    def outcomes(self, login_id: str) -> list[bool]:
        return [e.success for e in self.events if isinstance(e, LoginCompleted) and e.login_id == login_id]

    def check(self) -> None:
        """Raises AssertionError."""
        for name, attempt in self.attempts.items():
            expected = [] if attempt.is_open else [attempt.state == "succeeded"]
            assert self.outcomes(name) == expected, f"{name} {attempt.state}: {self.outcomes(name)}"
            assert (attempt.message is None) == (attempt.is_open or attempt.state == "succeeded")
        assert sum(attempt.is_open for attempt in self.attempts.values()) <= 1
        stored, current = self.last_success()
        assert self.store.inner.credentials == stored
        assert self.engine.session.credentials == current

    def last_success(self) -> tuple[Credentials | None, Credentials | None]:
        """What must be stored, and with what the engine must act, by the events alone."""
        stored: Credentials | None = None
        current: Credentials | None = None
        completed: LoginCompleted | None = None
        for event in self.events:
            if isinstance(event, LoginCompleted) and event.success:
                completed = event
            elif isinstance(event, AccountUpdated):
                current = self.credentials_of(completed, event)
                completed = None
                if current is not EXTERNAL:
                    stored = current
        return stored, current

    def credentials_of(self, completed: LoginCompleted | None, updated: AccountUpdated) -> Credentials | None:
        if completed is None:
            assert updated == AccountUpdated(None, None), "an account without a login"
            return None
        if completed.login_id is not None:
            return self.tokens[completed.login_id]
        return KEY if updated.auth_mode is AuthMode.API_KEY else EXTERNAL
