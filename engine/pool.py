"""EnginePool: an engine for each account, opened when it is needed and closed when it is not.

    async with EnginePool(open_engine) as pool:
        async with pool.engine("alice") as engine:
            authorization = await engine.authorization()

Theory of operation. An account has at most one `_Lent` in the pool: an engine that is being opened or is open, and the
number of its users. One task opens it, and all its users wait for that task. An engine without users is idle. Idle
engines are closed, the least recently used first, while there are too many engines, and after a time without use.

One engine at a time has an account: an engine that is taken out of the pool is closed in a task of its own, and the
next engine of that account is opened after this task has ended. No lock is shared by two accounts, so whatever takes
long for one account delays no other.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Generic, Self, TypeVar

import msgspec

from authstate.engine.clock import SystemClock
from authstate.engine.engine import AuthEngine
from authstate.engine.flows.alarm import Alarm
from authstate.engine.flows.refresh_pacing import SpreadRefreshes
from authstate.engine.model.arguments import wrong_type
from authstate.engine.model.errors import AuthstateError, PoolClosed, TransientAuthError
from authstate.engine.model.events import Event, RefreshFailed, StateChanged, Subscriptions, ensure_plain
from authstate.engine.model.states import Trigger
from authstate.engine.ports import Clock

K = TypeVar("K", bound=Hashable)

_LOOK_AGAIN = 5.0  # seconds until the pool looks again at idle engines that have work left
_EVICTION_GRACE = 30.0  # seconds; an engine that is evicted has nothing to wait for
_SLACK = 0.1  # seconds for engines to end after their grace


class PoolSettings(msgspec.Struct, frozen=True):
    """The numbers of a pool."""

    most_open: int = 1000
    """Beyond so many engines, idle ones are closed. If more are in use, the pool exceeds this number for that time."""
    idle_after: float = 900.0
    """An engine that nobody used for so many seconds is closed."""
    refresh_gap: float = 1.0
    """At most so many seconds lie between two background refreshes. It is less if the tokens leave less time."""


class PoolMetrics(msgspec.Struct, frozen=True):
    """What a pool does now, and what it did since its start. All are numbers of accounts, engines or events."""

    open: int
    """Engines that are open."""
    in_use: int
    """Accounts that have at least one user, users that wait for the engine included."""
    opening: int
    """Engines that are being opened."""
    closing: int
    """Engines that are being closed."""
    refreshing: int
    """Engines with a refresh under way."""
    paced: int
    """Background refreshes that wait for their turn."""
    opened: int
    """Engines that were opened since the start."""
    open_failures: int
    """Engines that could not be opened since the start."""
    evicted: int
    """Engines that the pool closed since the start, because they were idle."""
    refreshed: int
    """How often an engine got new tokens since the start: from the issuer, from another process or from a parent."""
    refresh_failures: int
    """How often a refresh failed since the start."""


class _Lent:
    """An engine of the pool that is being opened or is open."""

    opening: asyncio.Task[None]
    """Opens it."""

    def __init__(self) -> None:
        self.users = 0
        """Who has the engine, or waits for it."""
        self.engine: AuthEngine | None = None
        """None until it is started."""
        self.fault: Exception | None = None
        """Why it could not be opened."""


class EnginePool(Generic[K]):
    """Keeps an engine for each account that is in use, and for some that were.

    Use it only in one event loop. The login of an account is in its store: an engine that was closed and opened again
    continues with it. What was set on the engine object itself (its parent, its policy, its listeners) is set again by
    `open_engine`.

    Args:
        open_engine: returns an engine of an account that is not started yet. It must not block. Give all engines the
            same `TokenAuthority`, so that they share its connections.
        clock: the clock for idle times and pacing.
        random: chance, for pacing.
        settings: the numbers of the pool.
    """

    def __init__(
        self,
        open_engine: Callable[[K], AuthEngine],
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        settings: PoolSettings | None = None,
    ) -> None:
        if not callable(open_engine):
            raise wrong_type(open_engine, "open_engine", "a function that takes an account and returns an engine")
        self._open_engine = open_engine
        self._clock = clock or SystemClock()
        self._settings = settings or PoolSettings()
        self._is_closed = False
        self._lent: dict[K, _Lent] = {}
        self._idle: OrderedDict[K, float] = OrderedDict()  # since when; the least recently used first
        self._busy: dict[K, float] = {}  # idle ones that have work left, so that they cannot be closed; the same order
        self._closing: dict[K, asyncio.Task[None]] = {}
        self._alarm = Alarm(self._clock, self._look_at_idle)
        self._pacer = SpreadRefreshes(self._clock, random or Random(), self._settings.refresh_gap)
        self._events: Subscriptions[tuple[K, Event]] = Subscriptions()
        self._opened = self._open_failures = self._evicted = self._refreshed = self._refresh_failures = 0

    # Using engines

    @asynccontextmanager
    async def engine(self, account: K) -> AsyncGenerator[AuthEngine, None]:
        """Lend the engine of an account, started. It stays open while the context is open, unless `drop` or `close`
        come first: then its methods raise `EngineClosed`.

        All users of an account share its engine, and wait for the same opening. Cancelling one does not cancel it.

        Raises:
            PoolClosed: the pool is closed, or was closed before the engine was open.
            Exception: what `open_engine` or the start of the engine raised. The next use tries again.
        """
        lent = await self._borrow(account)
        try:
            assert lent.engine is not None
            yield lent.engine
        finally:
            self._give_back(account, lent)

    async def _borrow(self, account: K) -> _Lent:
        while not self._is_closed:
            lent = self._lent.get(account) or self._begin_opening(account)
            lent.users += 1
            self._forget_idle(account)
            try:
                if not lent.opening.done():
                    await asyncio.wait((lent.opening,))
            except asyncio.CancelledError:
                self._give_back(account, lent)
                raise
            if self._lent.get(account) is lent:
                return lent
            if (fault := lent.fault) is not None:
                raise fault.without_traceback() if isinstance(fault, AuthstateError) else fault
            # `drop` or `close` came before the engine was open
        raise PoolClosed

    def _give_back(self, account: K, lent: _Lent) -> None:
        lent.users -= 1
        self._note_if_idle(account, lent)

    def is_open(self, account: K) -> bool:
        """Whether the engine of an account is open now, so that `engine` waits for nothing."""
        lent = self._lent.get(account)
        return lent is not None and lent.engine is not None

    def subscribe(self, listener: Callable[[K, Event], None]) -> Callable[[], None]:
        """Call `listener` with every event of every engine, and its account. It is a plain function and must not block.

        Returns:
            A function that ends the subscription.

        Raises:
            TypeError: the listener is a coroutine function.
        """
        ensure_plain(listener)
        return self._events.subscribe(lambda told: listener(*told))

    def metrics(self) -> PoolMetrics:
        """Return what the pool does now, and what it did since its start. Costs about a microsecond for each engine."""
        engines = [lent.engine for lent in self._lent.values() if lent.engine is not None]
        return PoolMetrics(
            open=len(engines),
            in_use=sum(lent.users > 0 for lent in self._lent.values()),
            opening=len(self._lent) - len(engines),
            closing=len(self._closing),
            refreshing=sum(engine.is_refreshing for engine in engines),
            paced=self._pacer.waiting,
            opened=self._opened,
            open_failures=self._open_failures,
            evicted=self._evicted,
            refreshed=self._refreshed,
            refresh_failures=self._refresh_failures,
        )

    def _on_event(self, account: K, event: Event) -> None:
        if isinstance(event, StateChanged) and event.trigger is Trigger.TOKENS_REFRESHED:
            self._refreshed += 1
        elif isinstance(event, RefreshFailed):
            self._refresh_failures += 1
        self._events.emit((account, event))

    # Opening

    def _begin_opening(self, account: K) -> _Lent:
        lent = self._lent[account] = _Lent()
        lent.opening = asyncio.create_task(self._open(account, lent))
        self._close_idle()
        return lent

    async def _open(self, account: K, lent: _Lent) -> None:
        if (earlier := self._closing.get(account)) is not None:
            await asyncio.wait((earlier,))
        try:
            engine = self._open_engine(account)
            engine.pace_with(self._pacer)
            engine.subscribe(partial(self._on_event, account))
            await engine.start()
        except Exception as fault:
            self._note_unopened(account, lent, fault)
        except asyncio.CancelledError:
            self._note_unopened(account, lent, TransientAuthError("opening the engine was cancelled: try again"))
            raise
        else:
            lent.engine = engine
            self._opened += 1
            self._note_if_idle(account, lent)

    def _note_unopened(self, account: K, lent: _Lent, fault: Exception) -> None:
        """Forget an engine that could not be opened, unless `drop` or `close` ended its opening."""
        if self._lent.get(account) is lent:
            del self._lent[account]
            lent.fault = fault
            self._open_failures += 1

    # Closing what is idle

    def _note_if_idle(self, account: K, lent: _Lent) -> None:
        """Begin an idle time, if this engine of the pool has no users left."""
        if lent.users == 0 and lent.engine is not None and self._lent.get(account) is lent:
            self._idle[account] = self._clock.monotonic()
            self._close_idle()

    def _forget_idle(self, account: K) -> None:
        self._idle.pop(account, None)
        self._busy.pop(account, None)

    def _close_idle(self) -> None:
        """Close idle engines: the least recently used beyond `most_open`, and those whose time is over."""
        now = self._clock.monotonic()
        while self._idle:
            account, since = next(iter(self._idle.items()))
            due = since + self._settings.idle_after
            if len(self._lent) <= self._settings.most_open and due > now:
                self._alarm.set(due)
                break
            engine = self._lent[account].engine
            if engine is not None and engine.is_replaceable:
                self._evicted += 1
                self._begin_closing(account, _EVICTION_GRACE)
            else:
                del self._idle[account]
                self._busy[account] = since
        if self._busy:
            self._alarm.set(now + _LOOK_AGAIN)

    def _look_at_idle(self) -> None:
        """Look again at the idle engines that had work left, then close what is due."""
        for account, since in reversed(self._busy.items()):
            self._idle[account] = since
            self._idle.move_to_end(account, last=False)
        self._busy.clear()
        self._close_idle()

    # Closing

    async def drop(self, account: K, grace: float = 30.0) -> None:
        """Close the engine of an account now, even if it is in use: the account was removed, for example.

        Its users get `EngineClosed`. Those who still wait for it, and later ones, get a new engine. Cancelling the
        caller ends the wait; the engine is closed all the same.

        Args:
            account: whose engine to close. Nothing happens if it has none.
            grace: seconds to wait at most for a refresh token that is being spent.
        """
        if account in self._lent:
            self._begin_closing(account, grace)
        if (closing := self._closing.get(account)) is not None:
            await asyncio.wait((closing,))

    async def close(self, grace: float = 30.0) -> None:
        """Close all engines, also those in use. Wait for refresh tokens that are being spent, and cancel all else.

        Later uses, and those that still wait for an engine, get `PoolClosed`. Cancelling the caller ends the wait; the
        engines are closed all the same, and another call waits for the rest.

        Args:
            grace: seconds to wait at most, for all engines together.
        """
        self._is_closed = True
        for account in tuple(self._lent):
            self._begin_closing(account, grace)
        self._alarm.clear()
        if self._closing:
            await asyncio.wait(tuple(self._closing.values()), timeout=grace + _SLACK)
        for closing in self._closing.values():
            closing.cancel()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _begin_closing(self, account: K, grace: float) -> None:
        """Take the engine of an account out of the pool, and close it in a task of its own."""
        lent = self._lent.pop(account)
        self._forget_idle(account)
        lent.opening.cancel()
        if account in self._closing:
            return  # the opening still waits for that, so there is no engine yet
        closing = self._closing[account] = asyncio.create_task(self._close(lent, grace))
        closing.add_done_callback(lambda _: self._closing.pop(account))

    async def _close(self, lent: _Lent, grace: float) -> None:
        await asyncio.wait((lent.opening,))
        if lent.engine is not None:
            await lent.engine.close(grace)
