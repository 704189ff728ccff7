"""The real clock, and a timeout that any clock can measure."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from authstate.engine.ports import Clock

T = TypeVar("T")


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never jumps."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds. Cancellation ends the wait."""
        await asyncio.sleep(seconds)


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
    """Return the result of `work` if it comes within `seconds` of the clock.

    Raises:
        TimeoutError: it did not come in time; `work` was cancelled.

    Cancelling the caller cancels `work`.
    """
    task = asyncio.ensure_future(work)
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((task, timer), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise TimeoutError
    finally:
        timer.cancel()
        task.cancel()
