"""An engine for login tests, with the invariants of its events and its store, and random histories for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from hypothesis import strategies as st

from authstate.engine.engine import AuthEngine
from authstate.engine.machines.login_attempt import LoginAttempt
from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import AuthError
from authstate.engine.model.events import AccountUpdated, AuthMode, Event, LoginCompleted
from authstate.engine.ports import HeldStore
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_external_tokens

KEY = ApiKey.parse("sk-model")
EXTERNAL = make_external_tokens()


class GatedStore:
    """A memory store. Each write awaits `gate("save")` or `gate("delete")` first."""

    def __init__(self, gate: Callable[[str], Awaitable[None]]) -> None:
        self.inner = MemoryStore()
        self.gate = gate

    def describe(self) -> str:
        return self.inner.describe()

    async def load(self) -> Credentials | None:
        return await self.inner.load()

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        return await self.inner.claim_on(fingerprint)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        async with self.inner.locked() as held:
            yield GatedHeld(self, held)


class GatedHeld:
    """The locked `GatedStore`."""

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

    async def record(self, claim: RefreshClaim) -> None:
        await self.inner.record(claim)


class World:
    """An engine, its events, and the check of the invariants.

    Args:
        gate: is awaited before each write to the store.

    Attributes:
        attempts: the login attempts by id.
        tokens: the tokens that each attempt stores if it succeeds.
    """

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
        """The outcomes that were sent for a login."""
        return [e.success for e in self.events if isinstance(e, LoginCompleted) and e.login_id == login_id]

    def check(self) -> None:
        """Check that each attempt has one outcome, and that the store and the session match the events.

        Raises:
            AssertionError: one of these is not so.
        """
        for name, attempt in self.attempts.items():
            expected = [] if attempt.is_open else [attempt.state == "succeeded"]
            assert self.outcomes(name) == expected, f"{name} {attempt.state}: {self.outcomes(name)}"
            assert (attempt.message is None) == (attempt.is_open or attempt.state == "succeeded")
        assert sum(attempt.is_open for attempt in self.attempts.values()) <= 1
        stored, current = self.last_success()
        assert self.store.inner.credentials == stored
        assert self.engine.session.credentials == current

    def last_success(self) -> tuple[Credentials | None, Credentials | None]:
        """The credentials that must be stored, and those of the session, according to the events."""
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
        """The credentials that two consecutive events stand for."""
        if completed is None:
            assert updated == AccountUpdated(None, None), "an account without a login"
            return None
        if completed.login_id is not None:
            return self.tokens[completed.login_id]
        return KEY if updated.auth_mode is AuthMode.API_KEY else EXTERNAL


Step = tuple[str, int]
"""An action: the name of a method, and a number that selects a variant or a login."""

History = list[list[Step]]
"""Groups of steps. The steps of one group run concurrently."""


def histories(steps: Sequence[str], *, numbers: int, length: int) -> st.SearchStrategy[History]:
    """A strategy for histories.

    Args:
        steps: the steps of the world, besides those that every world has.
        numbers: the largest number of a step.
        length: the largest number of groups.
    """
    step = st.tuples(st.sampled_from((*steps, "log_out", "use_key", "use_external", "slow")), st.integers(0, numbers))
    return st.lists(st.lists(step, min_size=1, max_size=4), min_size=1, max_size=length)


class SteppedWorld(World):
    """A world that runs histories. A write to its store takes `rounds` iterations of the event loop."""

    def __init__(self) -> None:
        super().__init__(self.slowly)
        self.rounds = 0

    async def live(self, history: History) -> None:
        """Run a history and close the engine. Check the invariants after each group of steps.

        Raises:
            AssertionError: an invariant is broken, or a login, a task or a timer is left at the end.
        """
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        before = asyncio.all_tasks()
        await self.engine.start()
        for group in history:
            await asyncio.gather(*(self.do(step) for step in group))
            await self.clock.settle(40)
            self.check()
        await self.engine.close()
        await self.closed()
        await self.clock.settle(40)
        self.check()
        assert not any(attempt.is_open for attempt in self.attempts.values())
        assert self.clock.sleepers == 0
        assert asyncio.all_tasks() == before
        assert faults == []

    async def do(self, step: Step) -> None:
        """Do one step. A step that fails with an AuthError or OSError is fine: the history goes on."""
        what, number = step
        with suppress(AuthError, OSError):
            await getattr(self, what)(number)

    async def closed(self) -> None:
        """Wait until the logins that hold resources have ended. For subclasses."""

    async def slowly(self, what: str) -> None:
        """Take `rounds` iterations of the event loop before `what`."""
        for _ in range(self.rounds):
            await asyncio.sleep(0)

    async def slow(self, number: int) -> None:
        """Change how long later writes take."""
        self.rounds = number * 2

    async def log_out(self, number: int) -> None:
        await self.engine.log_out()

    async def use_key(self, number: int) -> None:
        await self.engine.use_api_key(KEY)

    async def use_external(self, number: int) -> None:
        await self.engine.use_external_tokens(EXTERNAL)
