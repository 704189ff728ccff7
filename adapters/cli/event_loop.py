"""Runs the coroutine of a command, and cancels it when the process is told to end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from authstate.adapters.cli.exit_status import ExitStatus
from authstate.adapters.io.signals import ENDINGS, handle_signals


def run_cancellable(work: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine in a new event loop and return its exit status.

    Ctrl-C, SIGTERM and SIGHUP cancel it. A refresh that was sent is stored first, because the engine's `close` waits
    for it; that wait is bounded, and a second signal does not shorten it. The exit status is then 128 plus the number
    of the signal. On Windows, event loops have no signal handlers: SIGTERM ends the process at once.
    """

    async def cancel_on_signal() -> int:
        task = asyncio.current_task()
        received: list[ExitStatus] = []

        def cancel(number: int) -> None:
            if task is not None and not received:
                received.append(ExitStatus(128 + number))
                task.cancel()

        handle_signals(ENDINGS, cancel)
        try:
            return await work
        except asyncio.CancelledError:
            if not received:
                raise
            return received[0]

    return asyncio.run(cancel_on_signal())
