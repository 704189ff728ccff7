"""A seed becomes a history of machines: what people ask of them, how long they pause, and what fails."""

from random import Random

from model.machines.authority import WRITE
from model.machines.database import State
from model.machines.machine import STORE, Line
from model.machines.remembered import remembered
from model.machines.world import TIMES, MachinesWorld
from model.simulation.issuer import Weather
from model.simulation.process import Process
from model.simulation.scheduler import Runner, Scheduler

_BAD_WEATHER = (Weather.LOST_BEFORE, Weather.LOST_AFTER, Weather.SILENT, Weather.LATE, Weather.BUSY, Weather.PARTIAL)
_BAD_LINES = (Line.LOST_BEFORE, Line.LOST_AFTER, Line.LATE, Line.REFUSED)
_CALLS = (*("authorize",) * 6, *("request",) * 6, *("refresh",) * 4, "reload", "check", "sign_in", "sign_out")
_MISCHIEF = ("kill", "kill", "pause", "pause", "pause", "cancel", "terminate", "clock", "refuse", "crash", "partition")
_PAUSES = (0.05, 0.5, TIMES.answer, TIMES.claim - TIMES.answer, TIMES.claim, TIMES.claim + TIMES.margin, 20.0, 3600.0)
_DELICATE = {WRITE: 8.0, STORE: 8.0}
"""How much likelier something goes wrong at a stop."""
_GAPS = (0.0, 0.0, 0.001, 0.02, 0.1, 1.0, 6.0)
_JUMPS = (30.0, -30.0, 3600.0, -3600.0)


class MachinesHistory(MachinesWorld):
    """The history of a seed. The same seed gives the same history, step by step."""

    def __init__(self, seed: int, *, fails_over: bool = False) -> None:
        random = Random(seed)
        super().__init__(random, Scheduler(self._choose, self._order))
        self.seed = seed
        self._fails_over = fails_over
        self._rate = random.choice((0.0, 0.003, 0.01, 0.02, 0.05))
        self._kinds = [kind for kind in _MISCHIEF if random.random() < 0.5] or ["pause"]
        self._bad_weather = random.choice((0.0, 0.0, 0.1, 0.4))
        self._weathers = [weather for weather in _BAD_WEATHER if random.random() < 0.5] or [Weather.LOST_AFTER]
        self._bad_line = random.choice((0.0, 0.0, 0.05, 0.2))
        self._lines = [line for line in _BAD_LINES if random.random() < 0.5] or [Line.LOST_AFTER]
        self._unreachable: dict[str, float] = {}
        self._shuffles = random.random() < 0.3
        self._is_over = False
        self._crashes = 0
        self._replicated = State()

    def play(self) -> None:
        """Run it to its end. Raises Violation, with the timeline."""
        with remembered():
            try:
                self._play()
            finally:
                self.close()

    def _play(self) -> None:
        random = self.random
        self.issuer.lifetime = random.choice((2.0, 20.0, 31.0, 301.0, 3600.0))
        if random.random() < 0.9:
            self.sign_in_before()
        self._replicated = self.database.state
        for _ in range(random.randint(2, 4)):
            self.start()
        when = 0.0
        for _ in range(random.randint(3, 10)):
            when += random.choice((*_GAPS, self.issuer.lifetime)) * random.random() * 1.2
            self.scheduler.after(when, self._event)
        self.run()
        self._heal()
        self.scheduler.after(TIMES.claim + TIMES.margin, lambda: None)  # what is still held ends by itself
        self.finish()

    def weather(self) -> tuple[Weather, float, float]:
        """What becomes of the next request to the issuer."""
        random = self.random
        there, back = random.choice((0.001, 0.01, 0.05)), random.choice((0.001, 0.01, 0.05))
        if self._is_over or random.random() >= self._bad_weather:
            return Weather.FINE, there, back
        self.counts["network faults"] += 1
        return random.choice(self._weathers), there, back

    def line(self, name: str) -> tuple[Line, float, float]:
        """What becomes of the next statement."""
        random = self.random
        there, back = random.choice((0.001, 0.005, 0.02)), random.choice((0.001, 0.005, 0.02))
        if self._unreachable.get(name, 0.0) > self.scheduler.now:
            self.ledger.disk_failed = True
            return Line.REFUSED, there, back
        if self._is_over or random.random() >= self._bad_line:
            return Line.FINE, there, back
        self.ledger.disk_failed = True
        self.counts["lost statements"] += 1
        return random.choice(self._lines), there, back

    def interfere(self, runner: Runner) -> bool:
        """At each step, something may go wrong."""
        super().interfere(runner)
        if self._fails_over and self.random.random() < 0.05:
            self._replicated = self.database.durable
        rate = self._rate * _DELICATE.get(runner.paused or "", 1.0)
        if rate and not self._is_over and self.random.random() < rate:
            self._mischief(runner, self.random.choice(self._kinds))
        return runner.can_run()

    # What people do

    def _event(self) -> None:
        random, process = self.random, self._somebody()
        if process is None or random.random() < 0.1:
            self.start()
        elif random.random() < 0.2:
            self._mischief(process.runner, random.choice(("refuse", "kill", "pause")))
        else:
            for _ in range(random.choice((1, 1, 3))):
                self._call(self._somebody() or process)

    def _call(self, process: Process) -> None:
        kind = self.random.choice(_CALLS)
        self.counts["calls"] += 1
        if kind == "sign_in":
            process.call(kind, self.random.choice(("org-1", "org-2")))
        else:
            process.call(kind)

    def _somebody(self) -> Process | None:
        now = self.scheduler.now
        living = [one for one in self.processes if not one.is_closing and one.runner.stalled_until <= now]
        return self.random.choice(living) if living else None

    # What goes wrong

    def _mischief(self, runner: Runner, kind: str) -> None:
        process = next((found for found in self.processes if found.runner is runner), None)
        if process is None:
            return
        if kind == "kill":
            self._kill(process)
        elif kind == "pause":
            seconds = self.random.choice(_PAUSES)
            self.counts["pauses"] += 1
            self.ledger.disk_failed = True  # an answer of the database may come too late for it
            self.note(process.name, f"stands still for {seconds:g} s at {runner.paused or 'an await'}")
            runner.stall(seconds)
        elif kind == "cancel":
            self._cancel()
        elif kind == "terminate" and not process.is_closing:
            self.counts["terminations"] += 1
            process.call("terminate", 30.0)
        elif kind == "clock":
            process.clock.error += (jump := self.random.choice(_JUMPS))
            self.note(process.name, f"its wall clock jumps by {jump:g} s")
        elif kind == "refuse":
            self._refuse()
        elif kind == "crash":
            self._crash_server()
        elif kind == "partition":
            self.counts["partitions"] += 1
            seconds = self.random.choice((0.3, 3.0, 10.0))
            self.note(process.name, f"does not reach the database for {seconds:g} s")
            self._unreachable[process.name] = self.scheduler.now + seconds

    def _kill(self, process: Process) -> None:
        if self._crashes >= 3:
            return
        self._crashes += 1
        self.kill(process)
        self.scheduler.after(self.random.choice((0.0, 0.03, 0.5)), lambda: self._call(self.start()))

    def _crash_server(self) -> None:
        if self._fails_over and self.random.random() < 0.5:
            self.counts["failovers"] += 1
            self.note("world", "a standby takes the place of the database")
            self.fail_over(self._replicated)
            return
        self.counts["crashes of the database"] += 1
        self.note("world", "the database crashes and starts again")
        self.database.crash()

    def _cancel(self) -> None:
        waiting = [(p, c) for p in self.processes for c in p.callers if not c.is_done and c.kind != "terminate"]
        if waiting:
            self.counts["cancelled callers"] += 1
            process, caller = self.random.choice(waiting)
            process.cancel(caller)

    def _refuse(self) -> None:
        if self.ledger.grants:
            newest = list(self.ledger.grants.values())[-1]
            self.note("world", f"the backend refuses the access token of {newest.token}")
            self.ledger.refused_access.add(newest.access_token)

    def _heal(self) -> None:
        self.note("world", "all faults are over")
        self._is_over = True
        self._unreachable.clear()
        for process in self.processes:
            process.clock.error = 0.0

    # Who runs next

    def _choose(self, runnable: list[Runner]) -> Runner:
        return runnable[int(self.random.random() * len(runnable))]

    def _order(self, runner: Runner) -> int:
        if self._shuffles and len(runner.loop.ready) > 1:
            return self.random.randrange(len(runner.loop.ready))
        return 0
