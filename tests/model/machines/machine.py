"""A process's way to the simulated database."""

import asyncio
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import psycopg
from model.machines.database import SimDatabase
from model.simulation.scheduler import About, Runner, Scheduler

from authstate.adapters.postgres import statements
from authstate.adapters.postgres.connections import Row
from authstate.adapters.postgres.database import PostgresDatabase
from authstate.adapters.postgres.keys import EncryptionKeys

KEYS = EncryptionKeys({"simulated": bytes(32)})


STORE = "store of an answer"
"""The name of the stop before an answer is sent to the database."""


class Line(StrEnum):
    """What becomes of a statement on its way."""

    FINE = "fine"
    LOST_BEFORE = "lost before the server saw it"
    LOST_AFTER = "answer lost after the server did it"
    LATE = "done after the client gave up"
    REFUSED = "no connection"


class SimConnections(PostgresDatabase):
    """The connections of one process: what `PostgresDatabase` is with a real server.

    Args:
        database: the server.
        scheduler: says what time it is.
        runner: the process.
        line: chooses what becomes of the next statement, and how long its way and the way back take, in seconds.
    """

    _pauses = (0.0, 0.05, 0.2)
    _answer_within = 0.5

    def __init__(
        self,
        database: SimDatabase,
        scheduler: Scheduler,
        runner: Runner,
        line: Callable[[str], tuple[Line, float, float]],
    ) -> None:
        super().__init__("host=simulated dbname=simulated", KEYS, listens=False, elapsed=lambda: scheduler.now)
        self._database = database
        self._scheduler = scheduler
        self._runner = runner
        self._line = line

    @property
    def holder(self) -> str:
        """The name of the process."""
        return self._runner.name

    async def _fetch_once(self, statement: str, values: Mapping[str, Any]) -> Row | None:
        if statement == statements.SETTLE:
            self._runner.pause(STORE)
        line, there, back = self._line(self._runner.name)
        if line is Line.REFUSED:
            await asyncio.sleep(there)
            raise psycopg.OperationalError("simulated: no connection")
        answered: asyncio.Future[Row | None] = self._runner.loop.create_future()

        def arrive() -> None:
            answer = self._database.execute(statement, values)
            if line is Line.FINE:
                self._scheduler.after(back, lambda: give(answer), About(self._runner.name, "an answer", wakes=True))
            elif line is Line.LOST_AFTER:
                self._scheduler.after(back, fail, About(self._runner.name, "a lost connection", wakes=True))

        def give(answer: Row | None) -> None:
            if self._runner.alive and not answered.done():
                answered.set_result(answer)

        def fail() -> None:
            if self._runner.alive and not answered.done():
                answered.set_exception(psycopg.OperationalError("simulated: the connection is lost"))

        if line is Line.LOST_BEFORE:
            self._scheduler.after(there, fail, About(self._runner.name, "a lost connection", wakes=True))
        else:
            late = self._answer_within if line is Line.LATE else 0.0
            self._scheduler.after(late + there, arrive, About(self._runner.name, "a statement"))
        async with asyncio.timeout(self._answer_within):
            return await answered
