"""Keeps a login up to date in the background: follows other processes, and refreshes before the tokens expire."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, Self
from weakref import WeakSet

from authstate.engine.flows.engine_life import EngineLife
from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.flows.refresh_urgency import Urgency
from authstate.engine.model.errors import AuthError
from authstate.engine.model.events import Listeners
from authstate.engine.ports import Clock

_FOLLOW_EVERY = 1.0  # seconds between two looks at what other processes do to the login


class Follow(Protocol):
    """The form of `AuthEngine.follow`."""

    def __call__(self, *, adopt: bool, switch: bool) -> Awaitable[object]:
        """Apply what other processes did to the login."""
        ...


class Background:
    """Keeps one login up to date while it is entered, or from `start` to `stop`. See `AuthEngine.background`.

    Args:
        refresh: begins a refresh, if it is time for one. It does not wait. It raises an AuthError if the engine cannot
            be used.
        follow: applies what other processes did.
        is_idle: see `AuthEngine.background`.
        clock: measures the time between two looks.
        listeners: are warned of a fault that no look should have.
    """

    def __init__(
        self,
        refresh: Callable[[], None],
        follow: Follow,
        is_idle: Callable[[], bool] | None,
        clock: Clock,
        listeners: Listeners,
    ) -> None:
        self._refresh = refresh
        self._follow = follow
        self._is_idle = is_idle
        self._clock = clock
        self._listeners = listeners
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Begin, in the event loop of the engine. Does nothing if it has begun.

        Raises:
            EngineClosed, WrongEventLoop: the engine cannot be used here and now.
        """
        if self._task is None:
            self._refresh()
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End. A refresh that is under way continues, because others may wait for it. May be called again.

        Cancelling the caller ends the wait; it ends all the same.
        """
        if (task := self._task) is not None:
            self._task = None
            task.cancel()
            await asyncio.wait((task,))

    def cancel(self) -> None:
        """End soon: the engine is being closed."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        is_faulty = False
        while True:
            await self._clock.sleep(_FOLLOW_EVERY)
            try:
                await self._look()
            except AuthError:
                return  # the engine was closed
            except Exception as fault:
                if not is_faulty:
                    why = f"the login cannot be followed just now ({type(fault).__name__}): it is tried again"
                    self._listeners.warn("background_failed", why)
                is_faulty = True
            else:
                is_faulty = False

    async def _look(self) -> None:
        is_idle = None if self._is_idle is None else self._is_idle()
        await self._follow(adopt=is_idle is True, switch=is_idle is not False)
        self._refresh()


class Backgrounds:
    """The `Background` objects of one engine.

    Args:
        life: says whether the engine is open.
        scheduler: refreshes.
        clock: the clock of the engine.
        listeners: those of the engine.
    """

    def __init__(self, life: EngineLife, scheduler: RefreshScheduler, clock: Clock, listeners: Listeners) -> None:
        self._life = life
        self._scheduler = scheduler
        self._clock = clock
        self._listeners = listeners
        self._made: WeakSet[Background] = WeakSet()

    def make(self, follow: Follow, *, keep_fresh: bool, is_idle: Callable[[], bool] | None) -> Background:
        """Return one that has not begun. See `AuthEngine.background`."""
        refresh = self._refresh if keep_fresh else self._life.ensure_usable
        made = Background(refresh, follow, is_idle, self._clock, self._listeners)
        self._made.add(made)
        return made

    def close(self) -> None:
        """End all of them."""
        for made in self._made:
            made.cancel()

    def _refresh(self) -> None:
        """Begin the refresh that a request would begin now. A refresh token that may be spent is left to a request
        that needs it, and so is one that could not be refreshed a moment ago.
        """
        self._life.ensure_usable()
        if self._scheduler.may_refresh_early() and self._scheduler.proactive_urgency() is not Urgency.NONE:
            self._scheduler.refresh_soon()
