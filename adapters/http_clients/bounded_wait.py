"""Calls a function that blocks, and waits only so long for it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


class WaitEnded(Exception):
    """The function has not returned in time. It goes on."""


def call_within(seconds: float | None, call: Callable[[], _T]) -> _T:
    """Call a function that blocks, and return its result. With a limit, it runs in a thread of its own.

    The thread ends when the function returns. It does not keep the program alive.

    Args:
        seconds: how long to wait. None: as long as the function takes.
        call: the function.

    Raises:
        WaitEnded: the time is over.
        Exception: whatever the function raises.
    """
    if seconds is None:
        return call()
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="authstate wait", daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():
            raise  # an error of the function itself
    raise WaitEnded
