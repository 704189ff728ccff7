"""One process: the engine and the store as they are shipped, and the callers that use them."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Protocol

from model.simulation.broker_clients import BrokerClients
from model.simulation.issuer import EPOCH, Issuer, SimAuthority, Weather
from model.simulation.ledger import Ledger
from model.simulation.scheduler import About, Runner, Scheduler

from authstate.adapters.journal.lines import Line
from authstate.adapters.journal.recorder import LineMaker
from authstate.adapters.testing.tokens import make_external_tokens
from authstate.engine.engine import AuthEngine
from authstate.engine.flows.refresh_urgency import Urgency, urgency_of
from authstate.engine.machines.refresh_trace import TraceStep
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError, PermanentRefreshError
from authstate.engine.model.events import Event, RefreshEnded, RefreshFailed, RefreshStarted, StateChanged, Warned
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.session import Authorization
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import Clock, CredentialStore

SETTINGS = RefreshSettings(
    first_wait=0.05, longest_wait=0.4, total=1.5, rechecks=(0.0, 0.05, 0.1), save_waits=(0.0, 0.02, 0.08)
)
"""The product's numbers, with shorter waits: the order of things is what is tested."""
BOUND = 60.0
"""Virtual seconds within which every caller must have its answer, but for the time that its process stood still."""


class World(Protocol):
    """What a process needs of the world around it."""

    scheduler: Scheduler
    issuer: Issuer
    ledger: Ledger
    random: Random

    def open_store(self, runner: Runner, clock: Clock) -> CredentialStore:
        """The store of a process."""
        ...

    def authority_kind(self) -> type[SimAuthority]:
        """How processes reach the issuer."""
        ...

    def content(self) -> bytes | None:
        """What a reader of auth.json finds now."""
        ...

    journal: list[Callable[[], Line]]

    def note(self, who: str, what: str) -> None:
        """Write to the timeline."""

    def weather(self) -> tuple[Weather, float, float]:
        """What becomes of the next request."""
        ...

    def ended(self, process: "Process") -> None:
        """A process ended in order."""


class SimClock:
    """A process's clock. Its wall clock may be wrong; its monotonic clock is the world's."""

    def __init__(self, scheduler: Scheduler, looked: Callable[[float], None]) -> None:
        self.error = 0.0
        """Seconds that the wall clock is ahead."""
        self._scheduler = scheduler
        self._looked = looked

    def now(self) -> float:
        now = EPOCH + self._scheduler.now + self.error
        self._looked(now)
        return now

    def monotonic(self) -> float:
        return self._scheduler.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Caller:
    """Somebody in a process who called the engine and waits."""

    def __init__(self, kind: str, began: float, stalled: float) -> None:
        self.kind = kind
        self.began = began
        self.stalled = stalled
        self.cancelled = False
        self.outcome = ""
        self.task: asyncio.Task[None] | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has its answer."""
        return bool(self.outcome)

    def never_began(self, _task: object) -> None:
        """It was cancelled; if that was before its first step, this is its answer."""
        self.outcome = self.outcome or "cancelled"


class Process:
    """A running program that holds an engine.

    Args:
        world: where it runs.
        name: as the timeline calls it.
    """

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.world = world
        self.runner = Runner(world.scheduler, name, self._complained)
        self.callers: list[Caller] = []
        self.is_closing = False
        self.grace_ran_out = False
        self.clock = SimClock(world.scheduler, self._looked_at_clock)
        self.store = world.open_store(self.runner, self.clock)
        authority = world.authority_kind()(
            world.issuer,
            world.ledger,
            world.scheduler,
            self.runner,
            world.weather,
            self._has_cause,
            self._is_usable,
            self._note,
        )
        self.engine = AuthEngine(
            self.store, authority, clock=self.clock, random=Random(world.random.random()), settings=SETTINGS
        )
        self.engine.subscribe(self._hear)
        self._lines = LineMaker(str, lambda: EPOCH + world.scheduler.now + self.clock.error, name, 0)
        self.engine.subscribe(self._record)
        self.engine.subscribe_trace(self._record)
        self.clients = BrokerClients(
            self.engine,
            self.store,
            authority,
            self.clock,
            self.runner,
            world.ledger,
            lambda: EPOCH + world.scheduler.now,
        )
        """Children that this process gives tokens, as a broker does."""
        self._is_refreshing = False  # as its events tell
        self._asked = 0
        self._outdated = ""
        self._abandoned = 0
        """Questions of children that went away: each may still cause one refresh."""
        self._expired = ""  # the access token that its clock last showed as expired
        self._caused: set[str] = set()
        self._external: set[str] = set()
        world.scheduler.runners.append(self.runner)

    # What a test does with it

    def call(self, kind: str, *arguments: Any) -> Caller:
        """Let somebody call the engine: `kind` is a coroutine method of this class."""
        caller = Caller(kind, self.world.scheduler.now, self.runner.stalled_for)
        self.callers.append(caller)
        caller.task = self.runner.loop.create_task(self._called(caller, getattr(self, kind), arguments))
        return caller

    def cancel(self, caller: Caller) -> None:
        """Let a caller give up."""
        if caller.task is not None and not caller.is_done:
            caller.cancelled = True
            self._note(f"cancels {caller.kind}")
            caller.task.cancel()
            caller.task.add_done_callback(caller.never_began)

    # What callers do

    async def start(self) -> str:
        session = await self.engine.start()
        return session.state

    async def authorize(self) -> str:
        """Ask for a token that is good to use."""
        return self._seen(await self.engine.authorization())

    async def request(self) -> str:
        """Send a request to the backend, and recover from its 401."""
        authorization = await self.engine.authorization()
        self._seen(authorization)
        await asyncio.sleep(self.world.random.choice((0.001, 0.02, 0.3)))
        if authorization.token.reveal() not in self.world.ledger.refused_access:
            return "status 200"
        again = await self.engine.recover(authorization)
        if again.token == authorization.token and self.engine.session.state is AuthState.CHATGPT:
            self.world.ledger.broken(f"{self.name} recovered from a 401 with the token that was refused")
        self._seen(again)
        return "recovered"

    async def refresh(self) -> str:
        """Refresh whatever the clock says."""
        self._asked += 1
        try:
            self._outdated = self._access()
            return (await self.engine.refresh()).state
        finally:
            self._asked -= 1

    async def check(self) -> str:
        return (await self.engine.check()).state

    async def reload(self) -> str:
        return f"changed: {await self.engine.reload()}"

    async def sign_in(self, account_id: str) -> str:
        """Complete a login."""
        tokens = self.world.issuer.sign_in(account_id)
        await self.engine.complete_chatgpt_login(tokens)
        return tokens.refresh_token.reveal()

    async def sign_out(self) -> str:
        await self.engine.log_out()
        return "signed out"

    async def use_external(self) -> str:
        """A parent application passes tokens in."""
        tokens = make_external_tokens(now=EPOCH + self.world.scheduler.now, expires_in=9e9)
        self._external.add(tokens.access_token.reveal())
        await self.engine.use_external_tokens(tokens)
        return "external tokens"

    async def terminate(self, grace: float) -> str:
        """SIGTERM: end in order."""
        self.is_closing = True
        began, stalled = self.world.scheduler.now, self.runner.stalled_for
        await self.engine.close(grace)
        took = self.world.scheduler.now - began
        if took > 2 * grace + 6 + self.runner.stalled_for - stalled:
            self.world.ledger.broken(f"{self.name} needed {took:g} s to end, with {grace:g} s of grace")
        self.world.scheduler.after(0.0, lambda: self.world.ended(self), About(self.name, "ends"))
        return f"after {took:.3f} s"

    # What it does as a broker

    async def lease(self) -> str:
        return self.clients.lease()

    async def ask_with_lease(self) -> str:
        """Let a leased child refresh, as after a 401 or an expiry."""
        if not self.clients.children:
            return self.clients.lease()
        return await self._asked_by_child(self.clients.ask(self.world.random.choice(self.clients.children)))

    async def ask_with_login(self, refresh_token: str) -> str:
        """Let a child of the home refresh with what is, or was, in auth.json."""
        return await self._asked_by_child(self.clients.ask_with_login(refresh_token))

    async def end_lease(self) -> str:
        if not self.clients.children:
            return "no lease"
        return self.clients.end(self.world.random.choice(self.clients.children))

    async def _asked_by_child(self, asked: Coroutine[Any, Any, str]) -> str:
        self._asked += 1
        try:
            self._outdated = self._access()
            return await asked
        except asyncio.CancelledError:
            self._outdated = self._access()  # the login was read meanwhile, and the refresh for this client goes on
            self._abandoned += 1
            raise
        finally:
            self._asked -= 1

    # Inside

    async def _called(
        self, caller: Caller, work: Callable[..., Coroutine[Any, Any, str]], arguments: tuple[Any, ...]
    ) -> None:
        self._note(f"{caller.kind} begins")
        try:
            outcome = await work(*arguments)
        except AuthError as error:
            outcome = type(error).__name__
            if isinstance(error, PermanentRefreshError):
                outcome += f" ({error.reason})"
        except asyncio.CancelledError:
            if not caller.cancelled:
                self.world.ledger.broken(f"{caller.kind} of {self.name} was cancelled, and nobody cancelled it")
            outcome = "cancelled"
        caller.outcome = outcome
        self._note(f"{caller.kind} ends: {outcome}")
        took = self.world.scheduler.now - caller.began - (self.runner.stalled_for - caller.stalled)
        if took > BOUND:
            self.world.ledger.broken(f"{caller.kind} of {self.name} took {took:g} s")

    def _seen(self, authorization: Authorization) -> str:
        if authorization.token.reveal() in self._external:
            return "external"
        self.world.ledger.handed_out(self.runner, authorization.token.reveal())
        return "has a token"

    def _record(self, happened: Event | TraceStep) -> None:
        if self.runner.alive:
            self.world.journal.append(self._lines.line_of(happened))

    def _hear(self, event: Event) -> None:
        ledger = self.world.ledger
        if isinstance(event, StateChanged):
            tokens = event.current.credentials
            name = tokens.refresh_token.reveal() if isinstance(tokens, ChatgptTokens) else "-"
            self._note(f"{event.trigger}: {event.current.state} {name}")
            if event.trigger is Trigger.TOKENS_REFRESHED and event.previous.state is AuthState.LOGGED_OUT:
                ledger.broken(f"{self.name} is signed in again by a late refresh")
            if isinstance(tokens, ChatgptTokens) and event.trigger is not Trigger.REFRESH_REJECTED:
                if event.current.state is AuthState.EXTERNAL_TOKENS:
                    self.world.ledger.broken(f"{self.name} puts tokens of its own in the place of the parent's")
                ledger.installed(self.runner, tokens)
        elif isinstance(event, RefreshStarted | RefreshEnded):
            begins = isinstance(event, RefreshStarted)
            if begins is self._is_refreshing:
                ledger.broken(f"{self.name} tells of a refresh that {'begins' if begins else 'ends'} twice")
            if isinstance(event, RefreshEnded) and event.duration < 0:
                ledger.broken(f"{self.name} tells of a refresh that ended before it began")
            self._is_refreshing = begins
        elif isinstance(event, RefreshFailed):
            tokens = self.engine.session.credentials
            if isinstance(event.error, PermanentRefreshError) and isinstance(tokens, ChatgptTokens):
                ledger.failed_for_good(self.runner, event.error.reason, tokens, self.world.content())
        elif isinstance(event, Warned):
            self._note(f"warns {event.code}")
            self.grace_ran_out = self.grace_ran_out or event.code == "refresh_abandoned"
            if event.code == "tokens_not_stored":
                ledger.not_stored(self.runner)

    def _looked_at_clock(self, now: float) -> None:
        tokens = self.engine.session.credentials
        if isinstance(tokens, ChatgptTokens) and urgency_of(tokens, now, SETTINGS) is not Urgency.NONE:
            self._outdated = tokens.access_token.reveal()
        if isinstance(tokens, ChatgptTokens) and tokens.expires_at is not None and tokens.expires_at <= now:
            self._expired = tokens.access_token.reveal()

    def _access(self) -> str:
        """The managed access token in use; none where there is none."""
        tokens = self.engine.session.credentials
        return tokens.access_token.reveal() if isinstance(tokens, ChatgptTokens) else ""

    def _has_cause(self, token: str) -> bool:
        """Whether somebody needs newer tokens: a caller who said so, the clock, a 401; or it was sent before.

        The need is for another access token. Where a process answered without one, the next one adopts a new refresh
        token beside the old access token, and needs as much as before.
        """
        access = self._access()
        has_cause = (
            token in self._caused
            or self.engine.session.state is AuthState.EXTERNAL_TOKENS  # they came while it waited for the lock
            or self._asked > 0
            or (access != "" and access == self._outdated)
            or access in self.world.ledger.refused_access
        )
        if not has_cause and self._abandoned:
            self._abandoned -= 1
            has_cause = True
        if has_cause:
            self._caused.add(token)
        return has_cause

    def _is_usable(self, token: str) -> bool:
        """Whether the process has an access token beside this refresh token that is good to use, as far as it knows."""
        tokens = self.engine.session.credentials
        if not isinstance(tokens, ChatgptTokens) or tokens.refresh_token.reveal() != token:
            return False
        access = tokens.access_token.reveal()
        return access != self._expired and access not in self.world.ledger.refused_access

    def _complained(self, what: str) -> None:
        if self.runner.alive:
            self.world.ledger.broken(f"{self.name}: {what}")

    def _note(self, what: str) -> None:
        self.world.note(self.name, what)
