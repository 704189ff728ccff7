"""The one refresh that all callers share, and the events that tell of it.

Each refresh emits one `RefreshStarted` and one `RefreshEnded`, whatever happens in between.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from authstate.engine.flows.refresh_retries import RefreshProgress
from authstate.engine.flows.single_flight import SharedTask, SingleFlight
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.model.errors import AuthError, EngineClosed, RefreshInterrupted
from authstate.engine.model.events import (
    Listeners,
    RefreshEnded,
    RefreshOutcome,
    RefreshReason,
    RefreshRetried,
    RefreshStarted,
)
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState
from authstate.engine.ports import Clock

RefreshWork = Callable[[Session, RefreshProgress], Coroutine[Any, Any, AuthError | None]]
"""Replaces the tokens of a session, notes in the progress how far it is, and returns the error that it failed with."""


class SharedRefresh:
    """Runs one refresh at a time.

    Args:
        machine: holds the session.
        clock: measures how long a refresh takes.
        listeners: get the events.
        work: does the refresh.
    """

    def __init__(self, machine: AuthMachine, clock: Clock, listeners: Listeners, work: RefreshWork) -> None:
        self._machine = machine
        self._clock = clock
        self._listeners = listeners
        self._work = work
        self._flight = SingleFlight()
        self.is_closed: bool = False
        """Whether `close` was called."""
        self.progress: RefreshProgress = RefreshProgress(self._emit_retry)
        """How far the refresh is that is under way, or was last."""

    @property
    def is_running(self) -> bool:
        """Whether a refresh is under way."""
        return self._flight.running is not None

    def start_or_join(self, reason: RefreshReason) -> SharedTask:
        """Return the refresh that is under way, or start one for that reason. A cancelled caller does not cancel it.

        After `close`, none is started, except one that stores what an earlier refresh brought: a program that ends
        would lose the answer.
        """
        if self.is_closed and reason is not RefreshReason.UNSTORED:
            return self._flight.start_or_join(_refuse)
        return self._flight.start_or_join(lambda: self._start(reason))

    def close(self) -> None:
        """Start no more refreshes. A caller that waited for something else may still ask for one."""
        self.is_closed = True

    async def finish_or_cancel(self, grace: float) -> None:
        """See `RefreshScheduler.finish_or_cancel`."""
        task = self._flight.running
        if task is None:
            return
        self.progress.stop_retrying()
        if not self.progress.is_uncancellable:
            task.cancel()
        done, _ = await asyncio.wait((task,), timeout=grace)
        if not done:
            raise RefreshInterrupted(f"a refresh has not ended within {grace:g} seconds: try again")

    def _start(self, reason: RefreshReason) -> Coroutine[Any, Any, AuthError | None]:
        self.progress = RefreshProgress(self._emit_retry)
        work = partial(self._work, self._machine.session, self.progress)
        return report_refresh(self._machine, self._clock, self._listeners, reason, self.progress, work)

    def _emit_retry(self, attempt: int, wait: float, error: AuthError) -> None:
        self._listeners.emit(RefreshRetried(attempt, wait, error.without_traceback()))


async def _refuse() -> AuthError:
    return EngineClosed()


async def report_refresh(
    machine: AuthMachine,
    clock: Clock,
    listeners: Listeners,
    reason: RefreshReason,
    progress: RefreshProgress,
    work: Callable[[], Coroutine[Any, Any, AuthError | None]],
) -> AuthError | None:
    """Do the work of a refresh between `RefreshStarted` and `RefreshEnded`, and return its error.

    Args:
        reason: why it begins.
        progress: filled in by the work.
        work: returns the error that it failed with.
    """
    began = clock.monotonic()
    listeners.emit(RefreshStarted(reason, machine.session.generation))
    outcome, error = RefreshOutcome.FAILED, None
    try:
        error = await work()
        if error is None:
            outcome = progress.outcome
        elif machine.session.state is AuthState.REFRESH_DEAD:
            outcome = RefreshOutcome.REJECTED
        return error
    except asyncio.CancelledError:
        outcome = RefreshOutcome.CANCELLED
        raise
    finally:
        duration = max(0.0, clock.monotonic() - began)
        shown = error.without_traceback() if error is not None else None
        listeners.emit(RefreshEnded(outcome, duration, progress.attempts, machine.session.generation, shown))
