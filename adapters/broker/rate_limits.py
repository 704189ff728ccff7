"""How often a client may ask: a token bucket for each client."""

from collections.abc import Callable, Hashable

import msgspec

_MOST_CLIENTS = 10_000  # buckets that are kept; a full bucket needs none


class Rate(msgspec.Struct, frozen=True):
    """A bound on requests."""

    burst: int
    """Requests at once."""
    per_second: float
    """Requests in the long run."""


class RateLimit:
    """Bounds the requests of each client.

    Args:
        rate: of one client.
        monotonic: seconds from an arbitrary start.
    """

    def __init__(self, rate: Rate, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # requests left, and when that was

    def take(self, client: Hashable) -> float:
        """Count a request.

        Returns:
            0.0 if it is within the bound. Otherwise the seconds after which one is: it is not counted then.
        """
        now = self._monotonic()
        left = self._left(client, now)
        if left < 1.0:
            self._buckets[client] = (left, now)
            return (1.0 - left) / self._rate.per_second
        if client not in self._buckets and len(self._buckets) >= _MOST_CLIENTS:
            self._forget_full(now)
        self._buckets[client] = (left - 1.0, now)
        return 0.0

    def wait(self, client: Hashable) -> float:
        """Return what `take` would return, without counting a request."""
        left = self._left(client, self._monotonic())
        return 0.0 if left >= 1.0 else (1.0 - left) / self._rate.per_second

    def _left(self, client: Hashable, now: float) -> float:
        left, since = self._buckets.get(client, (float(self._rate.burst), now))
        return min(float(self._rate.burst), left + (now - since) * self._rate.per_second)

    def _forget_full(self, now: float) -> None:
        """Drop the buckets that have filled up again."""
        full = [
            client
            for client, (left, since) in self._buckets.items()
            if left + (now - since) * self._rate.per_second >= self._rate.burst
        ]
        for client in full:
            del self._buckets[client]
