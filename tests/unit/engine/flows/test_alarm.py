"""An alarm rings at the earliest moment that was set, once, and has no task otherwise."""

import asyncio

from authstate.engine.flows.alarm import Alarm
from authstate.testing import ManualClock


class Rung:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.times: list[float] = []
        self.alarm = Alarm(self.clock, lambda: self.times.append(self.clock.monotonic()))


async def test_it_rings_once_at_its_moment() -> None:
    rung = Rung()
    rung.alarm.set(10.0)
    await rung.clock.elapse(9.5)
    assert rung.times == []
    await rung.clock.elapse(100)
    assert rung.times == [10.0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_earliest_moment_counts() -> None:
    rung = Rung()
    for moment in (10.0, 5.0, 7.0):
        rung.alarm.set(moment)
    await rung.clock.elapse(100)
    assert rung.times == [5.0]
    assert rung.clock.sleepers == 0


async def test_a_moment_in_the_past_rings_at_once_but_not_within_the_call() -> None:
    rung = Rung()
    rung.clock.advance(5.0)
    rung.alarm.set(1.0)
    assert rung.times == []
    await rung.clock.settle()
    assert rung.times == [5.0]


async def test_it_can_be_cleared_and_set_again() -> None:
    rung = Rung()
    rung.alarm.clear()
    rung.alarm.set(5.0)
    rung.alarm.clear()
    await rung.clock.elapse(10)
    rung.alarm.set(20.0)
    await rung.clock.elapse(20)
    assert rung.times == [20.0]


async def test_it_may_be_set_while_it_rings() -> None:
    clock, times = ManualClock(), list[float]()

    def ring() -> None:
        times.append(clock.monotonic())
        if len(times) < 3:
            alarm.set(clock.monotonic() + 1)

    alarm = Alarm(clock, ring)
    alarm.set(1.0)
    await clock.elapse(10)
    assert times == [1.0, 2.0, 3.0]
