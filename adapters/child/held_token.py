"""The token that a child acts with, and whether a refresh request is about an older one.

A refresh request does not say which token the backend refused. Known are the token that the child holds, since when it
holds it, and the turns that were running when the token was replaced. Requests of these turns may still be on the way
with the old token, and each turn asks at most once about it. (The turn whose refresh request brought the new token has
asked already.) So for some seconds after a replacement, as many refresh requests as there were other turns are answered
with the newer token, while these turns run. Any other refresh request is about the newest token.
"""

from authstate.adapters.child.running_turns import RunningTurns
from authstate.engine.model.session import Authorization
from authstate.engine.ports import Clock

LATE = 10.0
"""Seconds after a replacement in which the backend may still refuse a request with the old token."""
CROSSING = 0.1
"""Seconds in which a refresh request and newly sent tokens may cross in the pipes."""


class HeldToken:
    """What one child acts with.

    Args:
        clock: times replacements.
        turns: the turns that the child runs.
    """

    def __init__(self, clock: Clock, turns: RunningTurns) -> None:
        self._clock = clock
        self._turns = turns
        self._replaced_at = float("-inf")
        self._late_requests = 0  # how many refresh requests about the old token may still come
        self._late_turns: frozenset[int] = frozenset()  # from these turns
        self.authorization: Authorization | None = None
        """What the child took last; None while it has no login."""

    def update(self, authorization: Authorization | None, *, by_answer: bool = False) -> None:
        """Remember what the child acts with from now on.

        Args:
            authorization: None when the child was signed out.
            by_answer: whether it came in the answer to a refresh request of the child.
        """
        before, self.authorization = self.authorization, authorization
        now = self._clock.monotonic()
        if before is None or authorization is None or not authorization.is_same_account_as(before):
            self._replaced_at, self._late_requests, self._late_turns = float("-inf"), 0, frozenset()
        elif before.token != authorization.token:
            remaining = self._count_late(now)
            self._replaced_at = now
            self._late_turns = self._turns.numbers()
            self._late_requests = max(remaining, len(self._late_turns) - by_answer)

    def take_request(self) -> bool:
        """Count a refresh request. Return whether it may be about a token that was replaced."""
        now = self._clock.monotonic()
        if late := self._count_late(now):
            self._late_requests = late - 1
            return True
        return now - self._replaced_at < CROSSING

    def _count_late(self, now: float) -> int:
        """How many requests about a replaced token may still come: a turn that has ended sends none."""
        if now - self._replaced_at >= LATE:
            return 0
        return min(self._late_requests, len(self._late_turns & self._turns.numbers()))
