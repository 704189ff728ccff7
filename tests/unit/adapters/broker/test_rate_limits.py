"""Token buckets: a burst, then a rate, for each client by itself."""

import pytest

from authstate.adapters.broker import rate_limits
from authstate.adapters.broker.rate_limits import Rate, RateLimit
from authstate.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_burst_and_then_a_rate(clock: ManualClock) -> None:
    limit = RateLimit(Rate(burst=3, per_second=0.5), clock.monotonic)
    assert [limit.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]
    clock.advance(1)
    assert limit.take("a") == pytest.approx(1.0), "a refused request does not count"
    clock.advance(1)
    assert limit.take("a") == 0.0
    assert limit.take("a") == pytest.approx(2.0)
    clock.advance(3600)
    assert [limit.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(2.0)], "never more than the burst"


def test_clients_do_not_count_for_each_other(clock: ManualClock) -> None:
    limit = RateLimit(Rate(burst=1, per_second=1.0), clock.monotonic)
    assert (limit.take("a"), limit.take("b")) == (0.0, 0.0)
    assert limit.take("a") > 0 < limit.take("b")


def test_a_wall_clock_that_jumps_changes_nothing(clock: ManualClock) -> None:
    limit = RateLimit(Rate(burst=1, per_second=1.0), clock.monotonic)
    limit.take("a")
    clock.jump_wall(1e9)
    assert limit.take("a") == 1.0


def test_full_buckets_are_forgotten_and_others_are_kept(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_MOST_CLIENTS", 10)
    limit = RateLimit(Rate(burst=2, per_second=1.0), clock.monotonic)
    for number in range(10):
        limit.take(number)
    clock.advance(2)
    assert [limit.take("busy") for _ in range(3)] == [0.0, 0.0, 1.0]
    assert set(limit._buckets) == {"busy"}
    for number in range(20):
        limit.take(number)
    assert limit.take("busy") > 0
