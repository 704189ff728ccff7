"""Waiting only so long for a function that blocks."""

import threading
from typing import NoReturn

import pytest

from authstate.adapters.http_clients.bounded_wait import WaitEnded, call_within


@pytest.mark.parametrize("seconds", [None, 30.0])
def test_the_result_is_returned(seconds: float | None) -> None:
    assert call_within(seconds, lambda: 7) == 7


def test_without_a_limit_it_runs_in_the_thread_of_the_caller() -> None:
    assert call_within(None, threading.current_thread) is threading.current_thread()


@pytest.mark.parametrize("seconds", [None, 30.0])
@pytest.mark.parametrize("error", [TimeoutError, ValueError, SystemExit])
def test_an_error_of_the_function_is_raised(error: type[BaseException], seconds: float | None) -> None:
    def fail() -> NoReturn:
        raise error("its own")

    with pytest.raises(error, match="its own"):
        call_within(seconds, fail)


def test_the_wait_ends_and_the_function_goes_on() -> None:
    go_on, done = threading.Event(), threading.Event()

    def block() -> None:
        go_on.wait(30)
        done.set()

    with pytest.raises(WaitEnded):
        call_within(0.01, block)
    assert not done.is_set()
    go_on.set()
    assert done.wait(30)


def test_a_function_that_never_returns_does_not_keep_the_program_alive() -> None:
    assert call_within(30.0, threading.current_thread).daemon
