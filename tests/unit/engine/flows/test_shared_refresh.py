"""The shared refresh by itself: what it tells in which case, how it ends, and what may still begin after the close."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from authstate import (
    AuthError,
    Clock,
    EngineClosed,
    Event,
    IssuerUnavailable,
    Policy,
    RefreshEnded,
    RefreshInterrupted,
    RefreshOutcome,
    RefreshReason,
    RefreshRetried,
    RefreshStarted,
    Session,
)
from authstate.engine.flows.refresh_retries import RefreshProgress
from authstate.engine.flows.shared_refresh import SharedRefresh
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.model.events import Listeners
from authstate.testing import ManualClock

Work = Callable[[RefreshProgress], Awaitable[AuthError | None]]


def raised_with_a_secret() -> IssuerUnavailable:
    """An error whose frames hold what nobody should see."""
    token = "canary-5c1f"
    try:
        raise IssuerUnavailable(f"no answer for one of {len(token)} letters")
    except IssuerUnavailable as error:
        return error


class World:
    """A shared refresh whose work a test gives."""

    def __init__(self, work: Work, clock: Clock | None = None) -> None:
        self.clock = ManualClock()
        self.events: list[Event] = []
        listeners = Listeners()
        listeners.subscribe(self.events.append)

        async def call(session: Session, progress: RefreshProgress) -> AuthError | None:
            assert session is machine.session and progress is self.refresh.progress
            self.progresses.append(progress)
            return await work(progress)

        machine = AuthMachine(Policy(), listeners)
        self.progresses: list[RefreshProgress] = []
        self.refresh = SharedRefresh(machine, clock or self.clock, listeners, call)

    @property
    def ended(self) -> RefreshEnded:
        event = self.events[-1]
        assert isinstance(event, RefreshEnded)
        return event


async def test_it_tells_how_long_it_took_and_counts_for_each_refresh_anew() -> None:
    async def work(progress: RefreshProgress) -> None:
        assert isinstance(world.events[-1], RefreshStarted), "the beginning is told before anything is done"
        await world.clock.sleep(2.5)
        progress.attempts += 2
        progress.outcome = RefreshOutcome.REFRESHED

    world = World(work)
    for _ in range(2):
        began = world.refresh.start_or_join(RefreshReason.NEEDED)
        assert world.refresh.start_or_join(RefreshReason.BACKGROUND) is began
        await world.clock.until_asleep()
        assert world.refresh.is_running
        world.clock.advance(2.5)
        assert await began is None and not world.refresh.is_running
        assert world.ended == RefreshEnded(RefreshOutcome.REFRESHED, 2.5, 2, world.ended.generation)
    assert world.progresses[0] is not world.progresses[1]


async def test_a_clock_that_runs_backwards_gives_no_negative_duration() -> None:
    class Backwards(ManualClock):
        def monotonic(self) -> float:
            readings.append(100.0 - len(readings))
            return readings[-1]

    async def work(progress: RefreshProgress) -> None:
        pass

    readings: list[float] = []
    world = World(work, Backwards())
    await world.refresh.start_or_join(RefreshReason.NEEDED)
    assert len(readings) == 2 and world.ended.duration == 0.0


async def test_the_errors_that_it_tells_hold_no_frames() -> None:
    async def work(progress: RefreshProgress) -> AuthError:
        progress.note_retry(1.0, raised_with_a_secret())
        return raised_with_a_secret()

    world = World(work)
    error = await world.refresh.start_or_join(RefreshReason.NEEDED)
    assert error is not None and error.__traceback__ is not None
    retried = world.events[1]
    assert isinstance(retried, RefreshRetried)
    assert world.ended.outcome is RefreshOutcome.FAILED and world.ended.error is not None
    for told in (retried.error, world.ended.error):
        assert str(told) == str(error) and told.__traceback__ is None and told.__context__ is None


async def test_an_end_is_told_of_a_bug_too() -> None:
    async def work(progress: RefreshProgress) -> None:
        raise ZeroDivisionError

    world = World(work)
    with pytest.raises(ZeroDivisionError):
        await world.refresh.start_or_join(RefreshReason.NEEDED)
    assert (world.ended.outcome, world.ended.error) == (RefreshOutcome.FAILED, None)


@pytest.mark.parametrize("is_uncancellable", [True, False])
async def test_an_end_waits_for_a_token_that_is_being_spent_and_cancels_anything_else(is_uncancellable: bool) -> None:
    async def work(progress: RefreshProgress) -> None:
        progress.is_uncancellable = is_uncancellable
        progress.outcome = RefreshOutcome.REFRESHED
        await answer.wait()

    answer = asyncio.Event()
    world = World(work)
    task = world.refresh.start_or_join(RefreshReason.NEEDED)
    await asyncio.sleep(0)
    if is_uncancellable:
        with pytest.raises(RefreshInterrupted, match="has not ended within 0 seconds"):
            await world.refresh.finish_or_cancel(0.0)
        assert not task.done() and world.refresh.progress.is_stopping
        answer.set()
    await world.refresh.finish_or_cancel(30.0)
    assert task.cancelled() != is_uncancellable
    assert world.ended.outcome is (RefreshOutcome.REFRESHED if is_uncancellable else RefreshOutcome.CANCELLED)


@pytest.mark.parametrize("reason", RefreshReason)
async def test_after_the_close_only_what_is_unstored_is_stored(reason: RefreshReason) -> None:
    async def work(progress: RefreshProgress) -> None:
        pass

    world = World(work)
    world.refresh.close()
    error = await world.refresh.start_or_join(reason)
    if reason is RefreshReason.UNSTORED:
        assert error is None and world.progresses
    else:
        assert isinstance(error, EngineClosed) and world.progresses == [] and world.events == []
