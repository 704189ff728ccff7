"""A seed becomes a history: which processes there are, what people ask of them, and what goes wrong.

Each seed draws its own mix first (how often something goes wrong, and which things), so that some histories are calm
with one rare crash and others are a storm.
"""

import errno
from functools import partial
from random import Random

from model.simulation.issuer import Weather
from model.simulation.process import Process
from model.simulation.scheduler import Runner, Scheduler
from model.simulation.virtual_disk import File
from model.simulation.world import World, disk_fault

_BAD_WEATHER = (
    Weather.LOST_BEFORE,
    Weather.LOST_AFTER,
    Weather.SILENT,
    Weather.LATE,
    Weather.BUSY,
    Weather.PARTIAL,
)
_FAULTY = frozenset(
    (
        "read",
        "create",
        "write",
        "write_rest",
        "sync",
        "rename",
        "sync_folder",
        "remove",
        "list_folder",
        "read_lock_file",
        "write_lock_file",
        "publish",
    )
)
_DELICATE = {"write_rest": 4.0, "sync": 16.0, "rename": 8.0, "sync_folder": 8.0}
"""More goes wrong between the steps that make new tokens durable."""
_POWER_AT = 0.3
"""How often what goes wrong at a sync is the power, where it may fail at all: only this tells what was synced."""
_MISCHIEF = (
    *("kill", "kill", "power", "stall", "disk", "disk", "full"),
    *("cancel", "cancel", "terminate", "clock", "refuse"),
)
_CALLS = (
    *("authorize",) * 6,
    *("request",) * 6,
    *("refresh",) * 4,
    *("reload", "check"),
    *("sign_in", "sign_in_other", "sign_out", "use_external"),
)
_OF_CLIENTS = (
    *("ask_with_lease",) * 4,
    *("ask_with_login",) * 2,
    *("lease", "end_lease", "sign_in", "sign_in_other", "refuse"),
)
"""What happens to a process that is a broker, and by its clients."""
_EVENTS = ("call", "call", "call", "calls", "clients", "clients", "start", "refuse", "kill", "terminate", "clock")
_INTRUSIONS = ("use_external", "sign_in", "sign_in_other", "sign_out", "terminate")
"""What comes while a token is being spent: then there is most to lose."""
_JUMPS = (30.0, -30.0, 400.0, -400.0, 31_536_000.0, -31_536_000.0)
_GAPS = (0.0, 0.0, 0.001, 0.02, 0.1, 1.0, 40.0)


class History(World):
    """The history of a seed. The same seed gives the same history, step by step."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        super().__init__(random, Scheduler(self._choose, self._order))
        self.seed = seed
        self._rate = random.choice((0.0, 0.003, 0.01, 0.01, 0.03, 0.06))
        self._kinds = [kind for kind in _MISCHIEF if random.random() < 0.5] or ["kill"]
        self._bad_weather = random.choice((0.0, 0.0, 0.1, 0.3, 0.6))
        self._weathers = [weather for weather in _BAD_WEATHER if random.random() < 0.5] or [Weather.LOST_AFTER]
        self._loyalty = random.choice((0.0, 0.0, 0.5, 0.9))
        self._shuffles = random.random() < 0.3
        self._last: Runner | None = None
        self._is_over = False
        self._crashes = 0

    def play(self) -> None:
        """Run it to its end. Raises Violation, with the timeline."""
        try:
            self._play()
        finally:
            self.close()

    def _play(self) -> None:
        random = self.random
        self.issuer.lifetime = random.choice((20.0, 31.0, 200.0, 301.0, 3600.0))
        if random.random() < 0.9:
            self.sign_in_before()
        for _ in range(random.randint(2, 4)):
            self.start()
        when = 0.0
        for _ in range(random.randint(3, 12)):
            when += random.choice((*_GAPS, self.issuer.lifetime)) * random.random() * 1.2
            self.scheduler.after(when, self._event)
        self.run()
        self._heal()
        self.finish()

    def weather(self) -> tuple[Weather, float, float]:
        """What becomes of the next request."""
        random = self.random
        there, back = random.choice((0.001, 0.01, 0.05)), random.choice((0.001, 0.01, 0.05))
        if not self._is_over and random.random() < 0.15:
            self.scheduler.after((there + back) * random.random(), self._intrude)
        if self._is_over or random.random() >= self._bad_weather:
            return Weather.FINE, there, back
        self.counts["network faults"] += 1
        return random.choice(self._weathers), there, back

    def interfere(self, runner: Runner) -> bool:
        """At each step, something may go wrong."""
        super().interfere(runner)
        rate = self._rate * _DELICATE.get(runner.paused or "", 1.0)
        if rate and not self._is_over and self.random.random() < rate:
            is_power = runner.paused == "sync" and "power" in self._kinds and self.random.random() < _POWER_AT
            self._mischief(runner, "power" if is_power else self.random.choice(self._kinds))
        return runner.can_run()

    # What people do

    def _event(self) -> None:
        random = self.random
        kind = random.choice(_EVENTS)
        process = self._somebody()
        if process is None or kind == "start":
            self.start()
        elif kind == "call":
            self._call(process)
        elif kind == "calls":
            for _ in range(random.randint(2, 4)):
                self._call(self._somebody() or process, random.choice(("authorize", "request", "refresh")))
        elif kind == "clients":
            self._call(process, "lease")
            for number in range(random.randint(2, 6)):
                what = random.choice(_OF_CLIENTS)
                self.scheduler.after(number * random.choice(_GAPS), partial(self._of_clients, process, what))
        else:
            self._mischief(process.runner, kind)
            if kind == "refuse":
                for _ in range(random.randint(2, 4)):
                    self._call(process, "request")

    def _call(self, process: Process, kind: str | None = None) -> None:
        kind = kind or self.random.choice(_CALLS)
        self.counts["calls"] += 1
        if kind == "sign_in_other":
            process.call("sign_in", "org-2")
        elif kind == "sign_in":
            process.call("sign_in", "org-1")
        elif kind == "ask_with_login":
            if self.ledger.grants:
                process.call(kind, self.random.choice(list(self.ledger.grants)[-3:]))
        else:
            process.call(kind)

    def _of_clients(self, process: Process, kind: str) -> None:
        if kind == "refuse":
            self._refuse()
        elif process in self.processes and not process.is_closing:
            self._call(process, kind)

    def _intrude(self) -> None:
        process, kind = self._somebody(), self.random.choice(_INTRUSIONS)
        if process is not None and kind == "terminate":
            self._terminate(process)
        elif process is not None:
            self._call(process, kind)

    def _somebody(self) -> Process | None:
        living = [process for process in self.processes if not process.is_closing]
        return self.random.choice(living) if living else None

    # What goes wrong

    def _mischief(self, runner: Runner, kind: str) -> None:
        process = next((found for found in self.processes if found.runner is runner), None)
        if process is None:
            return
        if kind in ("kill", "power"):
            self._crash(process, kind)
        elif kind == "stall":
            self.counts["stalls"] += 1
            seconds = self.random.choice((0.005, 0.05, 0.5, 3.0, 10.0))
            self.note(process.name, f"stands still for {seconds:g} s")
            runner.stall(seconds)
        elif kind == "disk":
            self._fail_disk(process)
        elif kind == "full":
            self._fill_disk()
        elif kind == "cancel":
            self._cancel()
        elif kind == "terminate":
            self._terminate(process)
        elif kind == "clock":
            process.clock.error += (jump := self.random.choice(_JUMPS))
            self.note(process.name, f"its clock jumps by {jump:g} s")
        elif kind == "refuse":
            self._refuse()

    def _crash(self, process: Process, kind: str) -> None:
        if self._crashes >= 3:
            return
        self._crashes += 1
        if kind == "power":
            self.cut_power(self.random.randrange(len(self.virtual_disk.pending) + 1), self._left_of)
        else:
            self.kill(process)
        self.scheduler.after(self.random.choice((0.0, 0.03, 0.5)), self._restart)

    def _left_of(self, found: File) -> bytes:
        """What a power cut leaves of content that was not synced."""
        part = found.data[: self.random.randrange(len(found.data) + 1)]
        return self.random.choice((found.synced, part, found.data))

    def _restart(self) -> None:
        self._call(self.start(), self.random.choice(("authorize", "refresh", "request")))

    def _fail_disk(self, process: Process) -> None:
        if process.runner.paused not in _FAULTY:
            return
        self.counts["disk faults"] += 1
        self.ledger.disk_failed = True
        self.note(process.name, f"the disk fails at {process.runner.paused}")
        process.runner.fault = disk_fault(errno.EIO)

    def _fill_disk(self) -> None:
        if self.virtual_disk.is_full:
            return
        self.counts["disk faults"] += 1
        self.note("world", "the disk is full")
        self.ledger.disk_failed = self.virtual_disk.is_full = True
        self.scheduler.after(self.random.choice((0.02, 0.3, 4.0)), self._empty_disk)

    def _empty_disk(self) -> None:
        self.note("world", "the disk has space again")
        self.virtual_disk.is_full = False

    def _cancel(self) -> None:
        waiting = [(p, c) for p in self.processes for c in p.callers if not c.is_done and c.kind != "terminate"]
        if waiting:
            self.counts["cancelled callers"] += 1
            process, caller = self.random.choice(waiting)
            process.cancel(caller)

    def _terminate(self, process: Process) -> None:
        if process.is_closing:
            return
        self.counts["terminations"] += 1
        process.call("terminate", self.random.choice((0.1, 5.0, 30.0)))

    def _refuse(self) -> None:
        grants = list(self.ledger.grants.values())
        if grants:
            newest = grants[-1]
            self.note("world", f"the backend refuses the access token of {newest.token}")
            self.ledger.refused_access.add(newest.access_token)

    def _heal(self) -> None:
        self.note("world", "all faults are over")
        self._is_over = True
        self.virtual_disk.is_full = False
        for process in self.processes:
            process.clock.error = 0.0

    # Who runs next

    def _choose(self, runnable: list[Runner]) -> Runner:
        if self._loyalty and self._last in runnable and self.random.random() < self._loyalty:
            assert self._last is not None
            return self._last
        self._last = runnable[int(self.random.random() * len(runnable))]
        return self._last

    def _order(self, runner: Runner) -> int:
        if self._shuffles and len(runner.loop.ready) > 1:
            return self.random.randrange(len(runner.loop.ready))
        return 0
