"""Handles signals in the event loop, so that a program can finish what must not be interrupted."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

ENDINGS = ("SIGTERM", "SIGINT", "SIGHUP")
"""The signals that end a program."""


@contextmanager
def signals_noted(names: Iterable[str]) -> Iterator[list[int]]:
    """Note the numbers of signals that come before an event loop handles them, instead of ending the program.

    A signal that is ignored or handled already is left alone. At the end, each is as it was before.
    """
    came: list[int] = []
    before = {}
    for name in names:
        number = getattr(signal, name, None)
        if number is not None and (handler := signal.getsignal(number)) in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = handler
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def handle_signals(names: Iterable[str], on_event: Callable[[int], None]) -> list[int]:
    """Call `on_event` in the running event loop with the number of each of these signals that comes.

    A signal that is ignored stays ignored (nohup). One that this system does not have is skipped.

    Returns:
        The numbers of the signals that the loop cannot handle: all on Windows, and all outside of the main thread,
        where the signals belong to the embedder.
    """
    from asyncio import get_running_loop  # imported here: `signals_noted` is for the time before

    loop = get_running_loop()
    unhandled: list[int] = []
    for name in names:
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) is signal.SIG_IGN:
            continue
        try:
            loop.add_signal_handler(number, on_event, int(number))
        except (NotImplementedError, RuntimeError, ValueError):
            unhandled.append(int(number))
    return unhandled
