"""A clock that stands still until a test advances it."""

import asyncio
import heapq
from itertools import count

from authstate.adapters.stores.off_loop import is_idle

_LOOK_EVERY = 0.001  # seconds
_MOST_LOOKS = 1000  # a test may hold a disk on purpose


class ManualClock:
    """A `Clock` for tests: time passes only when the test says so.

    Not thread-safe: advance it in the thread whose event loop sleeps on it.

    Args:
        now: where the wall clock starts, in seconds since the epoch.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._wall = now
        self._elapsed = 0.0
        self._order = count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self.slept: list[float] = []
        """The argument of every `sleep`, in seconds, in the order of the calls."""

    def now(self) -> float:
        """Return the seconds since the epoch."""
        return self._wall

    def monotonic(self) -> float:
        """Return the seconds since this clock was created."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has advanced that far. Cancellation ends the wait and leaves nothing behind."""
        self.slept.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self._elapsed + seconds, next(self._order), future))
        await future

    @property
    def sleepers(self) -> int:
        """How many tasks sleep now."""
        return sum(not future.done() for _, _, future in self._waiting)

    def advance(self, seconds: float) -> None:
        """Let time pass in one step and wake the tasks that are due, the earliest first. They run at the caller's next
        await.

        A task that sleeps again counts from the end of this step. `elapse` goes through the moments one by one.
        """
        if seconds < 0:
            raise ValueError("time does not run backwards: use jump_wall for a wrong wall clock")
        self._move_to(self._elapsed + seconds)

    async def elapse(self, seconds: float) -> None:
        """Let time pass moment by moment: each task wakes at its own time, runs, and may sleep again."""
        end = self._elapsed + seconds
        await self.settle()
        while (moment := self._next_moment()) is not None and moment <= end:
            self._move_to(moment)
            await self.settle()
        self._move_to(end)
        await self.settle()

    async def until_asleep(self, sleepers: int = 1, rounds: int = 10_000) -> None:
        """Run the other tasks until `sleepers` of them sleep on this clock.

        Raises:
            AssertionError: too few of them sleep after `rounds` rounds of the event loop.
        """
        for _ in range(rounds):
            if self.sleepers >= sleepers:
                return
            await asyncio.sleep(0)
            await _until_disks_are_idle()
        raise AssertionError(f"{self.sleepers} sleep on the clock, not {sleepers}")

    async def settle(self, rounds: int = 20) -> None:
        """Let the other tasks run for `rounds` rounds of the event loop, and what stores do for them in threads."""
        for _ in range(rounds):
            await asyncio.sleep(0)
            await _until_disks_are_idle()

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock forwards or, if negative, backwards. No time passes, so no task wakes."""
        self._wall += seconds

    def _next_moment(self) -> float | None:
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    def _move_to(self, moment: float) -> None:
        self._wall += moment - self._elapsed
        self._elapsed = moment
        while (due := self._next_moment()) is not None and due <= moment:
            heapq.heappop(self._waiting)[2].set_result(None)


async def _until_disks_are_idle() -> None:
    """Wait, in real time, for the threads of stores."""
    for _ in range(_MOST_LOOKS):
        if is_idle():
            return
        await asyncio.sleep(_LOOK_EVERY)
