"""Which token a child's question for new tokens is about, and how many refreshes its questions may cost.

The question does not say which token was refused. What is known is what the child held, and since when, and which turns
were running when its token was replaced: their requests may still be on the way with the old token. Each such turn asks
at most once about the old token. (The turn whose question brought the new token has asked already.) So for some seconds
after the replacement, as many questions as there were other turns are answered with the newer token. Any other question
is about the newest one.
"""

from collections import deque

import msgspec
from msgspec import Raw

from authstate.engine.ports import Clock

LATE = 10.0
"""Seconds after a replacement in which a request that was sent with the old token may still be refused."""
CROSSING = 0.1
"""Seconds in which a question and the tokens that were just sent may pass each other in the pipes."""
MOST_REFRESHES = 6
"""Refreshes that the questions of one child may cause within PERIOD: three times what a token of 30 seconds needs."""
PERIOD = 60.0
"""Seconds."""
TURN_STARTED = "turn/started"
TURN_COMPLETED = "turn/completed"
OF_TURNS = frozenset({TURN_STARTED, TURN_COMPLETED})
"""The notifications that `Turns` hears."""
_MOST_TURNS = 1024


class _Turn(msgspec.Struct, rename="camel"):
    thread_id: str


class Turns:
    """The turns that a child runs, as its notifications tell: one for each thread at most."""

    def __init__(self) -> None:
        self._threads: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._threads)

    def threads(self) -> frozenset[str]:
        """The threads whose turns are running."""
        return frozenset(self._threads)

    def heard(self, method: str | None, params: Raw | None) -> None:
        """Take a notification of the child; those that are not about turns are ignored."""
        if method not in OF_TURNS or params is None:
            return
        try:
            thread = msgspec.json.decode(params, type=_Turn).thread_id
        except (ValueError, RecursionError):
            return
        if method == TURN_COMPLETED:
            self._threads.pop(thread, None)
        else:
            self._threads[thread] = None
            if len(self._threads) > _MOST_TURNS:
                self._threads.pop(next(iter(self._threads)))


class Replacements:
    """Tells whether a question can be about a token that was replaced."""

    def __init__(self, clock: Clock, turns: Turns) -> None:
        self._clock = clock
        self._turns = turns
        self._replaced_at = float("-inf")
        self._owed = 0

    def replaced(self, *, by_answer: bool) -> None:
        """The child got another token of the same account just now; `by_answer`: because one of its turns asked."""
        now = self._clock.monotonic()
        late = self._owed if now - self._replaced_at < LATE else 0
        self._replaced_at = now
        self._owed = max(late, len(self._turns) - by_answer)

    def forget(self) -> None:
        """The child got its first token, another account or none: nothing older is in use."""
        self._replaced_at = float("-inf")
        self._owed = 0

    def take(self) -> bool:
        """Take a question. Tells whether it is about a token that was replaced."""
        age = self._clock.monotonic() - self._replaced_at
        if self._owed and age < LATE:
            self._owed -= 1
            return True
        return age < CROSSING


class Budget:
    """How many refreshes the questions of one child may still cause."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spent: deque[float] = deque(maxlen=MOST_REFRESHES)

    def spend(self) -> float | None:
        """Take one. Returns None, or the seconds until there is one again."""
        now = self._clock.monotonic()
        if len(self._spent) == MOST_REFRESHES and (left := self._spent[0] + PERIOD - now) > 0:
            return left
        self._spent.append(now)
        return None
