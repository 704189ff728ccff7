"""Passes the signals that this process receives on to its child, until the child has ended."""

import asyncio
import signal
from collections.abc import Sequence

from authstate.adapters.child.process import FORWARDED, ChildProcess, may_have_reached_child
from authstate.adapters.io.signals import handle_signals


def forward_signals(child: ChildProcess, early: Sequence[int]) -> asyncio.Future[int]:
    """Pass signals on to a child from now on. Needs the running event loop of the main thread.

    Args:
        child: runs.
        early: the signals that came before.

    Returns:
        Its exit status, once it has ended.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    child.when_ended(lambda status: loop.call_soon_threadsafe(ended.set_result, status))

    def on_signal(number: int) -> None:
        if not may_have_reached_child(number):
            child.forward(number)

    unhandled = handle_signals(FORWARDED, on_signal)
    for number in early:
        on_signal(number)
    for number in unhandled:  # on Windows: the child gets a Ctrl-C by itself
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)
    return ended
