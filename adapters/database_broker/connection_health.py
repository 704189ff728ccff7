"""Whether the database of a broker can be used, and what the log of the broker says of it."""

import asyncio
from collections.abc import Sequence

from authstate.adapters.broker.served_accounts import NewsLine
from authstate.adapters.postgres import lease_statements
from authstate.adapters.postgres.connections import PostgresConnections
from authstate.engine.machines.lease import Lease
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.ports import Clock

ANSWERS_WITHIN = 2.0
"""Seconds in which a database answers that is not lost."""
_LOOK_EVERY = 1.0  # seconds


class ConnectionHealth:
    """Asks the database whether it is there. One question at a time is under way. While it is lost, it is asked about
    once a second.

    Args:
        database: which one.
        clock: for the times.
    """

    def __init__(self, database: PostgresConnections, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._asking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        self.fault: StoreUnavailable | None = None
        """Why the database cannot be used now. None as far as is known."""
        self.lost_at: float | None = None
        """When it was lost, by the monotonic clock. None if it is not."""

    async def look(self) -> StoreUnavailable | None:
        """Ask, if nobody has asked within the last second. Returns `fault`.

        It waits for at most two seconds, and not at all while the database is known to be lost.
        """
        is_watched = self.fault is not None and asyncio.current_task() is not self._watching
        if is_watched or self._clock.monotonic() - self._looked_at < _LOOK_EVERY:
            return self.fault
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        await asyncio.wait((self._asking,), timeout=ANSWERS_WITHIN)
        if not self._asking.done():
            self._lose(StoreUnavailable(f"{self._database.place} does not answer: check that the server runs"))
        self._looked_at = self._clock.monotonic()
        if self.fault is not None:
            self.suspect()
        return self.fault

    def suspect(self) -> None:
        """Find out whether the database is lost: a statement failed, or has no answer yet."""
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while await self.look() is not None:
            await self._clock.sleep(_LOOK_EVERY)

    async def close(self) -> None:
        """End the question that is under way, and ask no more."""
        for task in (self._watching, self._asking):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))

    async def _ask(self) -> None:
        try:
            row = await self._database.fetch(lease_statements.ANSWERS, {})
        except StoreUnavailable as fault:
            self._lose(fault.without_traceback())
            return
        if row is None or not row["is_primary"]:
            self._lose(StoreUnavailable(f"{self._database.place} accepts no writes: it is a standby. Name the primary"))
        else:
            self.fault = self.lost_at = None

    def _lose(self, fault: StoreUnavailable) -> None:
        self.fault = fault
        if self.lost_at is None:
            self.lost_at = self._clock.monotonic()

    def lost_for(self) -> float:
        """Seconds since the database was lost. 0 if it is not."""
        return 0.0 if self.lost_at is None else self._clock.monotonic() - self.lost_at


class DatabaseNews:
    """A `ReportsNews`: the database was lost, or is back.

    Args:
        health: of the database.
    """

    def __init__(self, health: ConnectionHealth) -> None:
        self._health = health
        self._lost_for: float | None = None  # at the last look. None if it was not lost

    async def look(self, changed: Sequence[Lease]) -> list[NewsLine]:
        """See `ReportsNews`."""
        fault = await self._health.look()
        before = self._lost_for
        if fault is None:
            self._lost_for = None
            return [] if before is None else [NewsLine("database_back", {"lost_for": round(before, 1)})]
        self._lost_for = self._health.lost_for()
        if before is not None:
            return []
        return [NewsLine("database_lost", {"message": str(fault)}, is_warning=True)]
