"""Signals that a program hears in its event loop: which it hears, and which are none of its business."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from authstate.adapters.io.signals import handle_signals, signals_noted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="an event loop on Windows has no signal handlers")
USR1 = getattr(signal, "SIGUSR1", 0)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = signal.getsignal(USR1)
    yield
    signal.signal(USR1, before)


async def test_a_signal_is_heard_in_the_loop() -> None:
    heard: asyncio.Queue[int] = asyncio.Queue()
    assert handle_signals(["SIGUSR1", "SIGNOTHING"], heard.put_nowait) == []
    os.kill(os.getpid(), USR1)
    assert await asyncio.wait_for(heard.get(), 60) == USR1
    asyncio.get_running_loop().remove_signal_handler(USR1)


async def test_one_that_is_ignored_stays_ignored() -> None:
    signal.signal(USR1, signal.SIG_IGN)
    heard: list[int] = []
    assert handle_signals(["SIGUSR1"], heard.append) == []
    os.kill(os.getpid(), USR1)
    await asyncio.sleep(0)
    assert signal.getsignal(USR1) is signal.SIG_IGN and heard == []


def test_signals_before_the_loop_are_noted() -> None:
    signal.signal(USR1, signal.SIG_DFL)
    with signals_noted(["SIGUSR1", "SIGNOTHING"]) as came:
        os.kill(os.getpid(), USR1)
        os.kill(os.getpid(), USR1)
        assert signal.getsignal(USR1) is not signal.SIG_DFL
    assert came == [USR1, USR1]
    assert signal.getsignal(USR1) is signal.SIG_DFL


@pytest.mark.parametrize("handler", [signal.SIG_IGN, print])
def test_one_that_somebody_handles_or_ignores_is_not_noted(handler: signal.Handlers) -> None:
    signal.signal(USR1, handler)
    with signals_noted(["SIGUSR1"]):
        assert signal.getsignal(USR1) is handler


def test_outside_of_the_main_thread_none_is_heard() -> None:
    told: list[list[int]] = []

    async def try_to_hear() -> None:
        told.append(handle_signals(["SIGUSR1"], print))

    thread = threading.Thread(target=lambda: asyncio.run(try_to_hear()))
    thread.start()
    thread.join()
    assert told == [[USR1]]


def test_an_interrupt_reaches_the_programs_that_tests_start() -> None:
    """The tests may run as a job in the background, whose shell ignores SIGINT for all of its children."""
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
