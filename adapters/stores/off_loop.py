"""Runs the writes of stores in threads, so that the event loop goes on while a disk works.

A write must not be interrupted in the middle, so a cancellation waits for its end. The threads are shared by all stores
of the process. They are few, because a disk does little at a time, and they start with the first write.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")

_MOST_THREADS = 4

_under_way: set[Future[Any]] = set()
_pools: "dict[int, ThreadPoolExecutor]" = {}  # by process: a forked child has none of its parent's threads


def in_disk_thread(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Begin a call in one of the threads, with the context variables of the caller.

    It runs at once, in the thread of the caller, if no thread can be started: while the interpreter ends, or where the
    system allows no more threads.

    Returns:
        Its result, for `completed`.
    """
    begun: Future[T] = Future()
    _under_way.add(begun)
    begun.add_done_callback(_under_way.discard)
    context = copy_context()
    steps = deque([lambda: context.run(call)])
    try:
        _pool().submit(_run_once, steps, begun)
    except RuntimeError:  # the pool may have queued it all the same
        _run_once(steps, begun)
    return asyncio.wrap_future(begun)


def is_idle() -> bool:
    """Return whether no call is under way. For clocks that let time pass only when everybody waits for them."""
    return not _under_way


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


def _pool() -> "ThreadPoolExecutor":
    process = os.getpid()
    if process not in _pools:
        from concurrent.futures import ThreadPoolExecutor

        _pools[process] = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="authstate-disk")
    return _pools[process]


def _run_once(steps: "deque[Callable[[], T]]", future: "Future[T]") -> None:
    """Run the only step, unless another thread took it: a pool that fails to start a thread has queued it before."""
    try:
        call = steps.popleft()
    except IndexError:
        return
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
