"""The event loop of one simulated process: asyncio's tasks, locks and timers on virtual time."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Protocol, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Timers(Protocol):
    """What the loop needs of the world."""

    now: float

    def at(self, when: float, owner: "ProcessLoop | None", handle: asyncio.Handle) -> None:
        """Make the handle ready in the owner's loop at that time."""


class ProcessLoop(asyncio.AbstractEventLoop):
    """Ready callbacks in a queue that the scheduler empties one by one. It never runs by itself.

    Args:
        timers: who keeps the time.
        complain: called with what asyncio reports to the loop's exception handler.
    """

    def __init__(self, timers: Timers, print_error: Callable[[str], None]) -> None:
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self._timers = timers
        self._complain = print_error

    def take(self, index: int = 0) -> asyncio.Handle:
        """Remove a ready callback; the first one is what asyncio itself would run next."""
        self.ready.rotate(-index)
        handle = self.ready.popleft()
        self.ready.rotate(index)
        return handle

    def time(self) -> float:
        return self._timers.now

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._timers.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers.at(when, self, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        task: asyncio.Task[_T] = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._complain(f"{context.get('message')}: {context.get('exception')!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """asyncio tells when a timer is cancelled; the scheduler skips it when its time comes."""
