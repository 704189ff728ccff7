"""Single flight: one task at a time does the work, and every caller waits for the same result."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from authstate.engine.model.errors import AuthError, RefreshInterrupted

SharedTask = asyncio.Task[AuthError | None]
"""Returns the error that it failed with instead of raising it: each caller raises an error object of its own."""


class SingleFlight:
    """Holds the one task that all callers share. It runs apart from them: a cancelled caller does not cancel it."""

    def __init__(self) -> None:
        self._task: SharedTask | None = None

    @property
    def running(self) -> SharedTask | None:
        """The task that is under way, if there is one."""
        return self._task if self._task is not None and not self._task.done() else None

    def start_or_join(self, work: Callable[[], Coroutine[Any, Any, AuthError | None]]) -> SharedTask:
        """Return the task that is under way, or start one that does `work`."""
        task = self.running
        if task is None:
            task = self._task = asyncio.create_task(work())
        return task

    def cancel(self) -> None:
        """Cancel the task that is under way. Its callers get RefreshInterrupted."""
        if self._task is not None:
            self._task.cancel()


async def wait_shielded(task: SharedTask) -> AuthError | None:
    """Wait for a shared task and return its error. Cancelling the caller does not cancel the task."""
    await asyncio.wait((task,))
    if task.cancelled():
        return RefreshInterrupted("a login, a logout or the end of the program came first: try again")
    return task.result()
