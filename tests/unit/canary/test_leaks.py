"""The look for leaks finds what it is to find: else the canary tests prove nothing."""

from typing import Any

import httpx
import pytest
from support.leaks import CANARY, assert_clean, assert_hidden, dumped

from authstate.engine.model.secret import Secret

ELSEWHERE = compile("def fail(token):\n    raise ValueError('no')\n", "/elsewhere/module.py", "exec")


def raised(token: str) -> ValueError:
    """An error whose traceback has a frame that is not of a test, with the token among its locals."""
    names: dict[str, Any] = {}
    exec(ELSEWHERE, names)
    with pytest.raises(ValueError) as caught:
        names["fail"](token)
    return caught.value


def with_note() -> ValueError:
    error = ValueError()
    error.add_note(CANARY)
    return error


def in_the_context_of(before: BaseException) -> ValueError:
    error = ValueError()
    error.__context__ = before
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError(CANARY),
        raised(CANARY),
        with_note(),
        in_the_context_of(raised(CANARY)),
        in_the_context_of(httpx.ReadTimeout("late", request=httpx.Request("GET", "https://a.example"))),
    ],
)
def test_an_error_that_leads_to_a_secret_is_found(error: BaseException) -> None:
    with pytest.raises(AssertionError):
        assert_clean(error)


def test_an_error_that_leads_to_none_is_clean() -> None:
    assert_clean(raised("harmless"))
    assert "harmless" in dumped(raised("harmless"))


class _Thing:
    def __init__(self, member: object) -> None:
        self.member = member

    def __repr__(self) -> str:
        return "nothing"


def test_a_member_and_a_pickle_that_show_a_secret_are_found() -> None:
    for thing in (_Thing(CANARY), _Thing([CANARY]), CANARY):
        with pytest.raises(AssertionError):
            assert_hidden(thing)
    assert_hidden(_Thing(Secret(CANARY)))
