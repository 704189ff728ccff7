"""One wake-up call at a moment of a clock."""

import asyncio
from collections.abc import Callable

from authstate.engine.ports import Clock


class Alarm:
    """Calls a function at a moment of the monotonic clock. While no moment is set, there is no task.

    Args:
        clock: measures the time.
        ring: what to call. It raises nothing. It may set the alarm again.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._moment = float("inf")
        self._task: asyncio.Task[None] | None = None

    def set(self, moment: float) -> None:
        """Ring at `moment`, later than this call returns. An earlier moment that is set already stays: `ring` decides
        what is due, and sets the next one.
        """
        if self._task is not None and self._moment <= moment:
            return
        self.clear()
        self._moment = moment
        self._task = asyncio.create_task(self._wait(moment))

    def clear(self) -> None:
        """Do not ring."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _wait(self, moment: float) -> None:
        await self._clock.sleep(max(0.0, moment - self._clock.monotonic()))
        self._task = None
        self._ring()
