"""Spreads the background refreshes of many engines within the time that their tokens leave.

Theory of operation. Tokens that were issued together expire together, and their accounts may all be used at the same
moment. So each engine asks for a turn and says how long its refresh may wait, which gives a deadline. Refreshes begin
one after the other, the earliest deadline first, with a gap between two of them:

- The gap is as long as the deadlines permit, and at most `longest_gap`. For each K, the first K refreshes have the time
  until the K-th deadline, so the gap is at most that time divided by K. The smallest of these quotients meets all
  deadlines. Once the refreshes that it was computed for have begun, it is computed again, and may be longer.
- The first refresh after a quiet time begins at once.
- Only the beginnings are spread. A refresh that takes long, or an issuer that does not answer, delays no other refresh.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from random import Random

import msgspec

from authstate.engine.flows.alarm import Alarm
from authstate.engine.ports import Clock


class _Waiting(msgspec.Struct, frozen=True, order=True):
    """A refresh that waits for its turn. The earliest deadline comes first, then who asked first."""

    deadline: float
    number: int
    begin: Callable[[], None]


class SpreadRefreshes:
    """A `RefreshPacer` for the engines of one event loop. While nothing waits, it has no task.

    Args:
        clock: measures the time.
        random: shortens each gap by up to half, so that several programs do not keep the same rhythm.
        longest_gap: seconds between two refreshes, if the deadlines leave so much.
    """

    def __init__(self, clock: Clock, random: Random, longest_gap: float) -> None:
        self._clock = clock
        self._random = random
        self._longest_gap = longest_gap
        self._waiting: list[_Waiting] = []  # sorted
        self._asked = 0
        self._last = float("-inf")  # when the last refresh began
        self._share = 1.0  # the part of the gap that lies between the last refresh and the next one
        self._gap = 0.0
        self._gap_holds_for = 0  # so many refreshes more; then it may be longer
        self._alarm = Alarm(clock, self._begin_due)

    @property
    def waiting(self) -> int:
        """How many refreshes wait for their turn."""
        return len(self._waiting)

    def pace(self, seconds: float, begin: Callable[[], None]) -> Callable[[], None]:
        """See `RefreshPacer`."""
        now = self._clock.monotonic()
        self._asked += 1
        asked = _Waiting(now + seconds, self._asked, begin)
        insort(self._waiting, asked)
        self._gap_holds_for = 0
        self._alarm.set(now)  # so the gap is computed once for all that ask at this moment

        def withdraw() -> None:
            place = bisect_left(self._waiting, asked)
            if self._waiting[place : place + 1] == [asked]:
                del self._waiting[place]
                self._gap_holds_for = 0
            if not self._waiting:
                self._alarm.clear()

        return withdraw

    def _begin_due(self) -> None:
        """Begin what is due now, and set the alarm for the next one."""
        now = self._clock.monotonic()
        while self._waiting:
            if self._gap_holds_for == 0:
                self._measure_gap(now)
            due = self._last + self._gap * self._share
            if due > now:
                self._alarm.set(due)
                return
            self._gap_holds_for -= 1
            self._last = now
            self._share = 1.0 - self._random.random() / 2
            self._waiting.pop(0).begin()

    def _measure_gap(self, now: float) -> None:
        """Find the longest gap that meets all deadlines, and for how many refreshes it must be no longer."""
        self._gap, self._gap_holds_for = self._longest_gap, len(self._waiting)
        for count, waiting in enumerate(self._waiting, start=1):
            if (gap := max(0.0, waiting.deadline - now) / count) < self._gap:
                self._gap, self._gap_holds_for = gap, count
