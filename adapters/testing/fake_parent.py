"""A parent application in memory that gives the answers of a test."""

import asyncio
from collections import deque
from typing import Final

from authstate.engine.model.credentials import ExternalTokens
from authstate.engine.model.errors import ParentUnavailable


class _Never:
    def __repr__(self) -> str:
        return "NEVER"


NEVER: Final = _Never()
"""An answer that never comes: the request waits until it is cancelled."""

Answer = ExternalTokens | Exception | _Never


class FakeParent:
    """An `ExternalTokenSource` with a queue of answers: tokens to give, an error to raise, or NEVER.

    If the queue is empty, it raises ParentUnavailable.

    Args:
        answers: the first answers, in order. `will_answer` adds more.
    """

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[str | None] = []
        """The `previous_account_id` of every request, in order."""
        self.was_asked: asyncio.Event = asyncio.Event()
        """Set by every request. A test that waits for another one clears it."""
        self.cancelled: int = 0
        """How many requests were cancelled."""
        self.gate: asyncio.Event = asyncio.Event()
        """Answers wait for it. It is set unless a test clears it."""
        self.gate.set()
        self._answers: deque[Answer] = deque(answers)

    @property
    def count(self) -> int:
        """How many requests arrived."""
        return len(self.asked)

    def will_answer(self, *answers: Answer) -> None:
        """Append answers to the queue."""
        self._answers.extend(answers)

    async def request_tokens(self, *, previous_account_id: str | None) -> ExternalTokens:
        """See `ExternalTokenSource`."""
        self.asked.append(previous_account_id)
        self.was_asked.set()
        answer: Answer = self._answers.popleft() if self._answers else ParentUnavailable("the parent has no answer")
        try:
            await self.gate.wait()
            if isinstance(answer, _Never):
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, ExternalTokens)
        return answer
