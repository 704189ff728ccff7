"""Runs the disk work of stores in threads, so that the event loop goes on while a disk works.

A write must not be interrupted in the middle, so a cancellation waits for its end. The threads are shared by all stores
of the process. They are few, because a disk does little at a time, and they start with the first step. Another thread
takes the place of one that hangs, so a disk that hangs keeps no other one waiting.

This is not a `ThreadPoolExecutor`: it cannot replace a thread that hangs, and it takes longer to begin and end a call.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_MOST_THREADS = 4
_now = time.monotonic
_PATIENCE = 1.0
"""Seconds after which a step that has not ended counts as hung, if other steps wait for a thread."""


def in_disk_thread(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Begin a call in one of the threads, with the context variables of the caller.

    It runs at once, in the thread of the caller, if no thread can be started: while the interpreter ends, or where the
    system allows no more threads.

    Returns:
        Its result, for `completed`.
    """
    step = _Step(call)
    _threads().run(step)
    return step.outcome


def is_idle() -> bool:
    """Return whether no call is under way. For clocks that let time pass only when everybody waits for them."""
    return _threads().are_idle()


async def completed(work: "asyncio.Future[T]") -> T:
    """Wait for the end of work that must not be interrupted, and return its result.

    Raises what the work raises. A cancellation of the caller does not end the wait. It is delivered at the caller's
    next await, so the caller can note what was done. It keeps its message, by which anyio knows its own cancellations.
    Of several, one without a message is delivered: it ends the task, and not only a scope of anyio.
    """
    cancellation: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError as error:
            if cancellation is None or not error.args:
                cancellation = error
    if cancellation is not None and (task := asyncio.current_task()) is not None:
        task.uncancel()  # it was counted when it was requested
        task.cancel(*cancellation.args)
    return work.result()


async def deliver_cancellation() -> None:
    """Deliver a cancellation that came during `completed`.

    For the end of a context. It may be the caller's last await inside a timeout. After the timeout, the cancellation
    would end something else.
    """
    if (task := asyncio.current_task()) is not None and task.cancelling():
        await asyncio.sleep(0)


class _Step:
    """One call, and what becomes of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Any] = self.loop.create_future()
        self.began: float | None = None
        self.is_replaced = False
        """Another thread took the place of the one that this step keeps."""
        self._call = call
        self._context = copy_context()

    def run(self) -> Callable[[], None]:
        """Run the call. Return what reports its outcome to the event loop."""
        self.began = _now()
        result, fault = None, None
        try:
            result = self._context.run(self._call)
        except BaseException as error:
            fault = error
        return partial(self._report, result, fault)

    def _report(self, result: Any, fault: BaseException | None) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody waits
            self.loop.call_soon_threadsafe(_set, self.outcome, result, fault)


def _set(outcome: "asyncio.Future[Any]", result: Any, fault: BaseException | None) -> None:
    if fault is None:
        outcome.set_result(result)
    elif isinstance(fault, StopIteration):  # Python 3.11 puts none into a future: its caller would wait for ever
        outcome.set_exception(RuntimeError("a step raised StopIteration"))
    else:
        outcome.set_exception(fault)


class _Threads:
    """The threads of one process."""

    def __init__(self) -> None:
        self.under_way: set[_Step] = set()
        self._queue: SimpleQueue[_Step] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0  # of threads, without those that hang
        self._active = 0  # steps that wait or run

    def run(self, step: _Step) -> None:
        """Run a step in a thread, or here if there can be no thread."""
        with self._lock:
            self.under_way.add(step)
            self._active += 1
            if self._count < min(self._active, _MOST_THREADS):
                self._count += self._start()
            has_thread = self._count > 0
        if not has_thread:
            self._do(step)
            return
        self._queue.put(step)
        if self._active > _MOST_THREADS:
            step.loop.call_later(_PATIENCE, self._replace_hung, step)

    def _start(self) -> bool:
        """Start a thread. Return whether the system allows it."""
        try:
            threading.Thread(target=self._work, daemon=True, name="authstate-disk").start()
        except RuntimeError:
            return False
        return True

    def _work(self) -> None:
        while not self._do(self._queue.get()):
            pass

    def _do(self, step: _Step) -> bool:
        """Run a step. Return whether another thread took the place of this one meanwhile."""
        report = step.run()
        with self._lock:  # for the report, too: a step whose outcome is known is no longer under way
            self._active -= 1
            report()
            self.under_way.discard(step)
            return step.is_replaced

    def are_idle(self) -> bool:
        with self._lock:
            return not self.under_way

    def _replace_hung(self, waiting: _Step) -> None:
        """Give each thread that hangs a substitute, if a step still waits for a thread."""
        with self._lock:
            if waiting.began is not None:
                return
            latest = _now() - _PATIENCE
            for step in self.under_way:
                if step.began is not None and step.began < latest and not step.is_replaced:
                    step.is_replaced = self._start()
        waiting.loop.call_later(_PATIENCE, self._replace_hung, waiting)


_of_process: dict[int, _Threads] = {}  # a forked child has none of its parent's threads
if hasattr(os, "register_at_fork"):  # the child may get the number of an ancestor that has ended
    os.register_at_fork(after_in_child=_of_process.clear)


def _threads() -> _Threads:
    process = os.getpid()
    return _of_process.get(process) or _of_process.setdefault(process, _Threads())
