"""An answer passes as often as there were requests with its id, and no more often."""

import pytest
from msgspec import Raw

from authstate.adapters.proxy.pending_requests import PendingRequests


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_id_that_is_used_several_times_at_once_is_answered_as_often(times: int) -> None:
    pending, one = PendingRequests(), Raw(b"7")
    assert pending.remove(one) is False
    for _ in range(times):
        pending.add(one)
    for _ in range(times):
        assert pending.remove(one) is True
    assert pending.remove(one) is False


def test_of_too_many_unanswered_requests_the_oldest_are_forgotten() -> None:
    pending = PendingRequests(most=2)
    for number in (b"1", b"2", b"1", b"3"):
        pending.add(Raw(number))
    assert [pending.remove(Raw(number)) for number in (b"2", b"1", b"1", b"1", b"3")] == [
        *(False, True, True, False, True)
    ]


@pytest.mark.parametrize(
    ("asked", "answered", "is_same"),
    [
        (b'"a"', b'"\\u0061"', True),
        (b'"7"', b"7", False),
        (b"7", b"7.0", False),
        (b'"a"', b'"b"', False),
    ],
)
def test_a_text_may_be_written_in_two_ways_and_a_number_in_one(asked: bytes, answered: bytes, is_same: bool) -> None:
    pending = PendingRequests()
    pending.add(Raw(asked))
    assert pending.remove(Raw(answered)) is is_same
