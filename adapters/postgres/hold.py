"""The hold of one row: the exclusive right to change it, for a time.

A write fails if somebody else took the row meanwhile (statements.py). The time of
a hold ends twice: for others, by the clock of the database; for its holder earlier, by its own clock, which never jumps
and was read before the database was asked. So a wall clock may be wrong by any amount, on any machine.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from authstate.adapters.postgres import statements
from authstate.adapters.postgres.connections import PostgresConnections, Row
from authstate.engine.model.errors import NotSentInTime, StoreBusy, StoreUnavailable


class HoldTimes(msgspec.Struct, frozen=True):
    """The times of a hold, in seconds. All machines that share a database use the same ones."""

    lock: float = 15.0
    """How long a row is held before a token is claimed, and for a sign-in or sign-out."""
    claim: float = 60.0
    """How long it is held from the claim of a token, or from its last renewal."""
    margin: float = 5.0
    """How long others wait after the end of a hold before they take the row."""
    answer: float = 32.0
    """What must be left of a hold when a token is sent: the longest time until the issuer answered, and a little."""


DEFAULT_TIMES: Final = HoldTimes()


class Writer(msgspec.Struct, frozen=True):
    """Who takes a hold.

    A store whose database does not answer does not know whether it still holds the row. The same writer may take it
    again at once. Nobody else may, until the hold ends by itself.
    """

    id: UUID = msgspec.field(default_factory=uuid4)
    generation: int = 0
    """The lowest one that the row may have then: higher than that of each write which may still be on its way."""


class Hold:
    """A hold that was taken.

    Args:
        database: where the row is.
        account: which row.
        writer: the number of this hold.
        generation: of the row, when it was taken.
        ends: when the hold ends at the earliest, by `database.elapsed`.
        times: for renewals.
    """

    def __init__(
        self, database: PostgresConnections, account: str, writer: UUID, generation: int, ends: float, times: HoldTimes
    ) -> None:
        self.account = account
        self._database = database
        self._writer = writer
        self._generation = generation
        self._ends = ends
        self.times = times
        self._is_over = False
        """Whether it is known that this is not the holder any more."""
        self._is_kept = False
        """Whether nobody else may take the row before the hold ends by itself."""

    def ensure_may_send(self) -> None:
        """Raise NotSentInTime if a token must not be sent any more: the answer could come after the end of the hold."""
        if self._is_over or self._ends - self._database.elapsed() < self.times.answer:
            raise NotSentInTime

    async def write(self, statement: str, values: Mapping[str, Any] = {}, *, seconds: float = 0.0) -> Row:
        """Run a statement that changes the row, unless somebody else took it meanwhile.

        Args:
            statement: one of statements.py.
            values: for it, besides those of the hold.
            seconds: how long the row is held from now on, if the statement renews the hold.

        Raises:
            StoreBusy: somebody else took the row. Nothing was written.
            StoreUnavailable: the database cannot be asked. Whether it was written is not known.
        """
        before = self._database.elapsed()
        self._generation += 1  # also if it fails: it may be done all the same
        row = await self._database.fetch(statement, self._values(values, seconds))
        if row is None:
            self._is_over = True
            raise StoreBusy(
                f"{self._database.place}: this process does not hold the account {self.account} any more: it paused "
                "for too long and another one took it, or the server lost its last moments in a crash: try again"
            )
        if seconds:
            self._ends = before + seconds
        return row

    def note_free(self) -> None:
        """Note that a write gave the row free."""
        self._is_over = True

    def keep(self) -> None:
        """Do not give the row free: its holder has an answer that is not stored, and the stored token is spent."""
        self._is_kept = True

    async def release(self) -> "Writer | None":
        """Give the row free, unless it is free or somebody else took it.

        Returns:
            None. If the row is kept, or the database cannot be asked: who can take the hold again, before its end.
        """
        if self._is_over:
            return None
        self._is_over = True
        self._generation += 1
        if self._is_kept:
            return Writer(self._writer, self._generation + 1)
        try:
            await self._database.fetch(statements.RELEASE, self._values({}, 0.0))
        except StoreUnavailable:
            return Writer(self._writer, self._generation + 1)
        return None

    def _values(self, values: Mapping[str, Any], seconds: float) -> Row:
        ours = {"account": self.account, "generation": self._generation, "writer": self._writer}
        return {**ours, "holder": self._database.holder, "seconds": seconds, **values}
