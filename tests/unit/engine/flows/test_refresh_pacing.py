"""Refreshes that ask at one instant are spread: each begins by its deadline, and as evenly as the deadlines permit."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from authstate.engine.flows.refresh_pacing import SpreadRefreshes
from authstate.testing import ManualClock


class NoChance(Random):
    """Shortens no gap."""

    def random(self) -> float:
        return 0.0


class Pacing:
    """A pacer and the moments at which refreshes began."""

    def __init__(self, *, longest_gap: float = 1.0, random: Random | None = None) -> None:
        self.clock = ManualClock()
        self.pacer = SpreadRefreshes(self.clock, random or NoChance(), longest_gap)
        self.began: dict[str, float] = {}

    def ask(self, name: str, seconds: float) -> Callable[[], None]:
        return self.pacer.pace(seconds, lambda: self.began.update({name: self.clock.monotonic()}))


async def test_one_refresh_begins_at_once_but_not_within_the_call() -> None:
    pacing = Pacing()
    pacing.ask("a", 100.0)
    assert (pacing.began, pacing.pacer.waiting) == ({}, 1)
    await pacing.clock.settle()
    assert (pacing.began, pacing.pacer.waiting) == ({"a": 0.0}, 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_few_refreshes_begin_with_the_longest_gap() -> None:
    pacing = Pacing()
    for name in "abc":
        pacing.ask(name, 240.0)
    await pacing.clock.elapse(10)
    assert pacing.began == {"a": 0.0, "b": 1.0, "c": 2.0}


async def test_many_refreshes_are_spread_within_the_time_that_is_left() -> None:
    pacing = Pacing()
    for number in range(1000):
        pacing.ask(str(number), 240.0)
    await pacing.clock.elapse(241)
    moments = sorted(pacing.began.values())
    assert len(moments) == 1000
    assert moments[-1] <= 240.0
    assert sum(moment < 1.0 for moment in moments) <= 5
    assert max(later - sooner for sooner, later in pairwise(moments)) < 0.25


async def test_the_earliest_deadline_is_first() -> None:
    pacing = Pacing()
    for name, seconds in (("late", 200.0), ("soon", 50.0), ("now", 0.0), ("past", -5.0)):
        pacing.ask(name, seconds)
    await pacing.clock.elapse(10)
    assert list(pacing.began) == ["past", "now", "soon", "late"]
    assert (pacing.began["past"], pacing.began["now"]) == (0.0, 0.0)


async def test_an_urgent_one_does_not_hurry_those_that_have_time() -> None:
    pacing = Pacing()
    for name, seconds in (("a", 0.3), ("b", 0.3), ("c", 0.3), ("later 1", 100.0), ("later 2", 100.0)):
        pacing.ask(name, seconds)
    await pacing.clock.elapse(10)
    assert max(pacing.began[name] for name in "abc") <= 0.3
    assert pacing.began["later 1"] - pacing.began["c"] > 0.99
    assert pacing.began["later 2"] - pacing.began["later 1"] > 0.99


async def test_one_that_asks_later_with_less_time_goes_first_and_in_time() -> None:
    pacing = Pacing(longest_gap=50.0)
    for name in "ab":
        pacing.ask(name, 200.0)
    await pacing.clock.elapse(1)
    pacing.ask("soon", 3.0)
    await pacing.clock.elapse(60)
    assert list(pacing.began) == ["a", "soon", "b"]
    assert pacing.began["soon"] <= 4.0


async def test_chance_shortens_the_gaps() -> None:
    pacing = Pacing(random=Random(7))
    for number in range(20):
        pacing.ask(str(number), 240.0)
    await pacing.clock.elapse(30)
    moments = sorted(pacing.began.values())
    gaps = {round(later - sooner, 6) for sooner, later in pairwise(moments)}
    assert len(gaps) > 10
    assert all(0.5 <= gap <= 1.0 for gap in gaps)


async def test_after_a_quiet_time_the_next_begins_at_once() -> None:
    pacing = Pacing()
    pacing.ask("a", 240.0)
    await pacing.clock.elapse(0.5)
    pacing.ask("b", 240.0)
    await pacing.clock.elapse(9.5)
    pacing.ask("c", 240.0)
    await pacing.clock.elapse(5)
    assert pacing.began == {"a": 0.0, "b": 1.0, "c": 10.0}


async def test_a_request_can_be_withdrawn_at_any_time() -> None:
    pacing = Pacing()
    first, second, third = (pacing.ask(name, 240.0) for name in "abc")
    await pacing.clock.settle()
    first()
    second()
    second()
    await pacing.clock.elapse(10)
    assert list(pacing.began) == ["a", "c"]
    third()


async def test_nothing_runs_once_the_last_request_is_withdrawn() -> None:
    pacing = Pacing()
    withdraw = [pacing.ask(name, 240.0) for name in "abc"]
    await pacing.clock.settle()
    for one in withdraw:
        one()
    await pacing.clock.settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert pacing.pacer.waiting == 0


@given(
    waves=st.lists(
        st.tuples(st.floats(0, 20), st.lists(st.floats(0, 300), min_size=1, max_size=15)), min_size=1, max_size=6
    ),
    seed=st.integers(0, 5),
)
def test_every_refresh_begins_by_its_deadline(waves: list[tuple[float, list[float]]], seed: int) -> None:
    async def play() -> None:
        pacing = Pacing(random=Random(seed))
        deadlines: dict[str, float] = {}
        for pause, seconds in waves:
            await pacing.clock.elapse(pause)
            for one in seconds:
                name = str(len(deadlines))
                deadlines[name] = pacing.clock.monotonic() + one
                pacing.ask(name, one)
        await pacing.clock.elapse(400)
        assert pacing.began.keys() == deadlines.keys()
        assert all(pacing.began[name] <= deadline + 1e-6 for name, deadline in deadlines.items())

    asyncio.run(play())
