"""Runs calls that may block for long: each in its own daemon thread, each wait with a time limit.

A thread cannot be stopped, so a call that exceeds its time limit continues in its thread. A caller that holds a lock
for it uses `call_when_done` to learn of its end. The program does not wait for daemon threads when it ends.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from authstate.adapters.stores.off_loop import completed
from authstate.engine.clock import within
from authstate.engine.ports import Clock

T = TypeVar("T")

_MAX_UNFINISHED = 4


class WorkerThreads:
    """Runs blocking calls for one owner.

    Args:
        clock: times the waits.
        timeout: seconds to wait for a call.
    """

    def __init__(self, clock: Clock, timeout: float) -> None:
        self.timeout = timeout
        self._clock = clock
        self._running: set[Future[Any]] = set()
        self._uncancellable: set[Future[Any]] = set()

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return its result.

        Raises what `work` raises. Raises TimeoutError if it has not ended in time, or if too many earlier calls have
        not ended. Cancellation ends the wait, not the call.
        """
        return await within(self._clock, self.timeout, _result(self._start(work)))

    async def run_uncancellable(self, work: Callable[[], T]) -> T:
        """Run a call that must not be interrupted.

        Like `run`, but a cancellation waits for the end of the call (or the timeout), and is delivered at the caller's
        next await.
        """
        future = self._start(work)
        self._uncancellable = {*(one for one in self._uncancellable if not one.done()), future}
        return await completed(asyncio.ensure_future(within(self._clock, self.timeout, _result(future))))

    def call_when_done(self, call: Callable[[], None]) -> None:
        """Call `call` once, when every `run_uncancellable` has ended: now, or later from a thread."""
        unfinished = {future for future in self._uncancellable if not future.done()}
        if unfinished:
            threading.Thread(target=_call_after, args=(unfinished, call), daemon=True, name="authstate-keyring").start()
        else:
            call()

    def _start(self, work: Callable[[], T]) -> Future[T]:
        self._running = {future for future in self._running if not future.done()}
        if len(self._running) >= _MAX_UNFINISHED:
            raise TimeoutError
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._running.add(future)
        threading.Thread(target=_work, args=(future, work), daemon=True, name="authstate-keyring").start()
        return future


def _work(future: "Future[T]", work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _call_after(unfinished: set[Future[Any]], call: Callable[[], None]) -> None:
    wait(unfinished)
    call()


async def _result(future: "Future[T]") -> T:
    return await asyncio.wrap_future(future)
