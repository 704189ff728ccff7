"""Signals that a program hears in its event loop, so that it can finish what must not be cut short."""

import asyncio
import signal
from collections.abc import Callable, Iterable

ENDINGS = ("SIGTERM", "SIGINT", "SIGHUP")
"""Those that are meant to end a program."""


def handle_signals(names: Iterable[str], on_event: Callable[[int], None]) -> list[int]:
    """Call `on_event` with the number of each of these signals that comes, in the event loop that runs.

    One that is ignored stays ignored (nohup), and one that this system does not have is passed over.

    Returns:
        The numbers of those that the loop cannot hear: all on Windows, and all outside of the main thread, where the
        signals are the embedder's.
    """
    loop = asyncio.get_running_loop()
    unheard: list[int] = []
    for name in names:
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) is signal.SIG_IGN:
            continue
        try:
            loop.add_signal_handler(number, on_event, int(number))
        except (NotImplementedError, RuntimeError, ValueError):
            unheard.append(int(number))
    return unheard
