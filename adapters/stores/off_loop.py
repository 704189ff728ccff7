"""Runs the writes of stores in threads, so that the event loop goes on while a disk works.

A write must not be interrupted in the middle, so a cancellation waits for its end. The threads are shared by all stores
of the process. They are few, because a disk does little at a time, and they start with the first write.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")

_MOST_THREADS = 4

_pools: "dict[int, ThreadPoolExecutor]" = {}  # by process: a forked child has none of its parent's threads


def in_disk_thread(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Begin a call in one of the threads. While the interpreter ends, there are none, and it runs at once.

    Returns:
        Its result, for `completed`.
    """
    try:
        begun = _pool().submit(call)
    except RuntimeError:
        begun = Future()
        _run_into(begun, call)
    return asyncio.wrap_future(begun)


async def completed(work: "asyncio.Future[T]") -> T:
    """Wait for the end of work that must not be interrupted, and return its result.

    Raises what the work raises. A cancellation of the caller does not end the wait. It is delivered at the caller's
    next await, so the caller can note what was done.
    """
    cancellations = 0
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError:
            cancellations += 1
    if cancellations and (task := asyncio.current_task()) is not None:
        for _ in range(cancellations):
            task.uncancel()
            task.cancel()
    return work.result()


def _pool() -> "ThreadPoolExecutor":
    process = os.getpid()
    if process not in _pools:
        from concurrent.futures import ThreadPoolExecutor

        _pools[process] = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="authstate-disk")
    return _pools[process]


def _run_into(future: "Future[T]", call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
