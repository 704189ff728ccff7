"""A world in which nothing is decided: it lists what may happen next, and does what it is told.

Few processes, few callers, at most one mishap. What may happen next is any of these:

    step      a process does what it is about to do: one callback of its event loop (what runs between two awaits), up
              to the next operation on the disk in it; or one operation on the disk and what follows it, up to the
    next one tick      time passes, and the timer that is due first goes off
    message   a request reaches the issuer, or an answer its process: no way on the network takes a certain time
    call      a caller comes and asks for a token
    kill      a process is killed, wherever it is
    power     the power fails, and the disk keeps what it must and any part of the rest
    cancel    a caller gives up
    terminate a process gets SIGTERM
    close     everything else is over: who lives refreshes once more, a new process starts and refreshes, and what all
              of this must come to is checked (`World.finish`)

Time stands still between two ticks, and of two timers the earlier one goes off first. The lock is tried again after
20 ms, and given up at that try: so a process that waits looks at it twice, at any two moments. Waits that are longer
would add tries that find the lock taken, and such a try changes nothing.
"""

import asyncio
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple, TypeVar

from model.simulation.issuer import Issuer, Request
from model.simulation.ledger import Ledger
from model.simulation.loop import ProcessLoop
from model.simulation.memory import memory_of
from model.simulation.process import Process
from model.simulation.scheduler import About, Runner, Scheduler
from model.simulation.virtual_disk import File, SimDisk, SimLock, VirtualDisk
from model.simulation.world import World
from support.prompt_disk import at_once

_T = TypeVar("_T")

NAMES = ("p1", "p2")
CRASHES = ("kill", "power")
MISHAPS = (*CRASHES, "cancel", "terminate")
_POWER_LEAVES: dict[str, Callable[[File], bytes]] = {
    "old": lambda found: found.synced,
    "half": lambda found: found.data[: len(found.data) // 2],
    "new": lambda found: found.data,
}


Timer = tuple[float, ProcessLoop, asyncio.Handle]


class Scope(NamedTuple):
    """How much of the world is enumerated."""

    calls: tuple[tuple[str, ...], ...] = (("authorize", "authorize"), ("authorize", "authorize"))
    """What the callers of p1 and those of p2 ask for, in the order in which they come."""
    mishaps: tuple[str, ...] = ("kill p1", "kill p2", "power")
    """What may go wrong, at any point, and once in a history. Also: "cancel p1", "terminate p1" and the like."""


class Choice(NamedTuple):
    """Something that may happen next."""

    kind: str
    process: str = ""
    what: str = ""


class Seen(NamedTuple):
    """What a choice let its process see of the world."""

    things: tuple[object, ...]
    time: float | None
    """None where it did not look at the clock."""
    asked_ledger: bool


class Local(NamedTuple):
    """What may be known of a process from outside."""

    lives: bool = False
    can_step: bool = False
    timer: float | None = None
    """When its next timer is due."""
    calls: int = 0
    """Callers that have not come yet."""
    waiting: int = 0
    """Callers that have no answer yet."""


class Shared(NamedTuple):
    """Everything that is in no process, as one value: equal values are equal worlds."""

    now: float
    messages: tuple[About, ...]
    mishaps: tuple[str, ...]
    """What may still go wrong."""
    alive: tuple[str, ...]
    unsynced_changes: int
    has_unsynced_content: bool
    virtual_disk: tuple[object, ...]
    ledger: tuple[object, ...]


def choices(shared: Shared, locals_: tuple[Local, ...]) -> Iterator[Choice]:
    """What may happen next. Nothing: the history is over."""
    living = [(name, local) for name, local in zip(NAMES, locals_, strict=True) if local.lives]
    first = min((local.timer for _, local in living if local.timer is not None), default=None)
    is_quiet = True
    for name, local in living:
        is_due = first is not None and local.timer == first
        may = (("step", local.can_step), ("call", local.calls > 0), ("tick", is_due))
        for kind, it_may in may:
            if it_may:
                is_quiet = False
                yield Choice(kind, name)
    for about in shared.messages:
        is_quiet = False
        yield Choice("message", about.process, about.what)
    if is_quiet:
        yield Choice("close")
    for kind, _, name in (mishap.partition(" ") for mishap in shared.mishaps):
        yield from _mishaps(kind, name, shared, dict(living))


def _mishaps(kind: str, name: str, shared: Shared, living: dict[str, Local]) -> Iterator[Choice]:
    if kind == "power":
        for kept in range(shared.unsynced_changes + 1):
            for leaves in _POWER_LEAVES if shared.has_unsynced_content else ("new",):
                yield Choice("power", what=f"{kept} {leaves}")
    elif name in living and kind == "cancel":
        yield from (Choice("cancel", name, str(number)) for number in range(living[name].waiting))
    elif name in living:
        yield Choice(kind, name)


class OpenScheduler(Scheduler):
    """Keeps timers and messages until somebody chooses one. Notes whether a process looked at the time."""

    def __init__(self) -> None:
        self.time = 0.0
        self.was_looked_at = False
        self.messages: list[tuple[About, Callable[[], None]]] = []
        self.timers: list[Timer] = []
        super().__init__(lambda runnable: runnable[0], lambda runner: 0)

    @property
    def now(self) -> float:
        self.was_looked_at = True
        return self.time

    @now.setter
    def now(self, now: float) -> None:
        self.time = now

    def at(self, when: float, owner: ProcessLoop | None, handle: asyncio.Handle | None) -> None:
        assert owner is not None and handle is not None
        self.timers.append((when, owner, handle))

    def after(self, delay: float, happening: Callable[[], None], about: About | None = None) -> None:
        assert about is not None
        if not about.wakes or any(runner.name == about.process for runner in self.runners):
            self.messages.append((about, happening))

    def advance(self) -> bool:
        """Let what is there happen in order: the messages first."""
        if self.messages:
            self.messages.pop(0)[1]()
            return True
        waiting = [timer for timer in self.timers if not timer[2].cancelled()]
        if not waiting:
            return False
        self.go_off(min(waiting, key=lambda timer: timer[0]))
        return True

    def go_off(self, timer: Timer) -> None:
        """Let it be the time of a timer."""
        self.timers.remove(timer)
        self.time = max(self.time, timer[0])
        timer[1].ready.append(timer[2])

    def next_timer(self, owner: ProcessLoop) -> Timer | None:
        """The timer of a process that is due first."""
        mine = [timer for timer in self.timers if timer[1] is owner and not timer[2].cancelled()]
        return min(mine, key=lambda timer: timer[0], default=None)

    def forget(self, runner: Runner) -> None:
        super().forget(runner)
        self.timers = [timer for timer in self.timers if timer[1] is not runner.loop]
        self.messages = [(about, happening) for about, happening in self.messages if not self._is_for(about, runner)]

    def _is_for(self, about: About, runner: Runner) -> bool:
        return about.wakes and about.process == runner.name


class _WatchedLedger(Ledger):
    """The ledger; tells when somebody turns to it."""

    def __init__(self, note: Callable[[str, str], None]) -> None:
        self.was_asked = False
        super().__init__(note)

    def __getattribute__(self, name: str) -> Any:
        if name != "was_asked":
            object.__setattr__(self, "was_asked", True)
        return object.__getattribute__(self, name)


class SmallScope(World):
    """The world of a scope: two processes that have started, and a login whose access token has expired."""

    ledger_kind = _WatchedLedger

    def __init__(self, scope: Scope) -> None:
        self.scheduler: OpenScheduler
        self.ledger: _WatchedLedger
        self._seen: list[object] = []
        super().__init__(Random(0), OpenScheduler(), lock_timeout=0.01)
        self.issuer.lifetime = -60.0
        self.sign_in_before()
        self.issuer.lifetime = 3600.0
        self._scope = scope
        self._mishaps = scope.mishaps
        self._calls = {name: list(calls) for name, calls in zip(NAMES, scope.calls, strict=True)}
        for process in (self.start(), self.start()):
            while process.runner.can_run():
                process.runner.step()

    # What a process sees

    def disk(self, runner: Runner) -> SimDisk:
        return _WatchedDisk(self.virtual_disk, runner, self._saw)

    def _saw(self, what: object) -> None:
        self._seen.append(what)

    def note(self, who: str, what: str) -> None:
        self.timeline.add(self.scheduler.steps, self.scheduler.time, who, what)

    # Looking at it

    def local(self, name: str) -> Local:
        """A process from outside."""
        process = self._find(name)
        if process is None:
            return Local()
        timer = self.scheduler.next_timer(process.runner.loop)
        waiting = sum(not caller.is_done for caller in process.callers)
        return Local(True, process.runner.can_run(), timer[0] if timer else None, len(self._calls[name]), waiting)

    def memory(self, name: str) -> tuple[object, ...] | None:
        """All that a process is, as one value; None while it is at an operation on the disk, amid its code."""
        process = self._find(name)
        if process is None or process.runner.paused is not None:
            return None
        waiting = [caller for caller in process.callers if not caller.is_done]
        timers = [(when, handle) for when, owner, handle in self.scheduler.timers if owner is process.runner.loop]
        about_it = [happening for about, happening in self.scheduler.messages if about.process == name]
        senders = [getattr(its, "__self__", None) for its in about_it]
        awaited = [sender.answered for sender in senders if isinstance(sender, Request)]
        state = {key: value for key, value in vars(process).items() if key not in ("callers", "runner")}
        outcome = process.callers[-1].outcome
        roots = (state, waiting, outcome, process.runner.loop.ready, timers, awaited, len(self._calls[name]))
        return memory_of(roots, _OUTSIDE)

    def shared(self) -> Shared:
        """Everything else."""
        virtual_disk = self.virtual_disk.snapshot()
        return Shared(
            now=self.scheduler.time,
            messages=tuple(sorted(about for about, _ in self.scheduler.messages)),
            mishaps=self._mishaps,
            alive=tuple(process.name for process in self.processes),
            unsynced_changes=len(self.virtual_disk.pending),
            has_unsynced_content=self.virtual_disk.has_unsynced_content(),
            virtual_disk=virtual_disk,
            ledger=self.ledger.snapshot(),
        )

    def outcome(self) -> dict[str, int]:
        """What was lost, and what became of the login, once it is over."""
        return {what: count for what, count in self.counts.items() if what.startswith(("lost: ", "histories "))}

    # Doing it

    def take(self, choice: Choice) -> Seen:
        """Let it happen. Returns what its process saw. Raises Violation."""
        self._seen.clear()
        self.scheduler.steps += 1
        self.scheduler.was_looked_at = self.ledger.was_asked = False
        if choice.kind in MISHAPS:
            self._mishaps = ()
        getattr(self, f"_{choice.kind}")(choice)
        time = self.scheduler.time if self.scheduler.was_looked_at else None
        seen = Seen(tuple(self._seen), time, self.ledger.was_asked)
        self.assert_promises()
        return seen

    def _step(self, choice: Choice) -> None:
        self._process(choice).runner.step()

    def _call(self, choice: Choice) -> None:
        self._process(choice).call(self._calls[choice.process].pop(0))

    def _tick(self, choice: Choice) -> None:
        process = self._process(choice)
        timer = self.scheduler.next_timer(process.runner.loop)
        assert timer is not None
        self.scheduler.go_off(timer)

    def _message(self, choice: Choice) -> None:
        [found] = [pair for pair in self.scheduler.messages if pair[0][:2] == choice[1:]]
        self.scheduler.messages.remove(found)
        if found[0].wakes:
            self._seen.append(choice.what)
        found[1]()

    def _kill(self, choice: Choice) -> None:
        self.kill(self._process(choice))

    def _cancel(self, choice: Choice) -> None:
        process = self._process(choice)
        process.cancel([caller for caller in process.callers if not caller.is_done][int(choice.what)])

    def _terminate(self, choice: Choice) -> None:
        self._process(choice).call("terminate", 5.0)

    def _power(self, choice: Choice) -> None:
        kept, leaves = choice.what.split()
        self.cut_power(int(kept), _POWER_LEAVES[leaves])

    def _close(self, choice: Choice) -> None:
        self.finish()

    def _process(self, choice: Choice) -> Process:
        process = self._find(choice.process)
        assert process is not None, f"{choice} of a process that is gone"
        return process

    def _find(self, name: str) -> Process | None:
        return next((process for process in self.processes if process.name == name), None)


class _WatchedDisk(SimDisk):
    """The simulated disk; tells what each operation brought."""

    def __init__(self, virtual_disk: VirtualDisk, runner: Runner, saw: Callable[[object], None]) -> None:
        super().__init__(virtual_disk, runner)
        self._saw = saw

    def begin(self, steps: Callable[[], _T]) -> "asyncio.Future[_T]":
        """Run the steps before the process does anything else. The seeded histories let it do other things, too; here
        they would be too many.
        """
        return at_once(self, steps)

    def lock(self, path: str) -> "_WatchedLock":
        return _WatchedLock(self._platter, self._runner, self._saw)


class _WatchedLock(SimLock):
    """The simulated lock; tells whether it was free."""

    def __init__(self, virtual_disk: VirtualDisk, runner: Runner, saw: Callable[[object], None]) -> None:
        super().__init__(virtual_disk, runner)
        self._saw = saw


def _watch(kind: type[Any], name: str) -> None:
    def watched(self: Any, *arguments: Any) -> Any:
        try:
            found = getattr(super(kind, self), name)(*arguments)
        except OSError as error:
            self._saw((name, error.errno))
            raise
        self._saw((name, tuple(found) if isinstance(found, list) else found))
        return found

    setattr(kind, name, watched)


for _name in (
    "read",
    "create",
    "write",
    "sync",
    "rename",
    "sync_folder",
    "remove",
    "list_folder",
    "read_lock_file",
    "write_lock_file",
):
    _watch(_WatchedDisk, _name)
for _name in ("acquire", "release"):
    _watch(_WatchedLock, _name)


_OUTSIDE = frozenset(
    {OpenScheduler, SmallScope, Issuer, _WatchedLedger, VirtualDisk, Process, ProcessLoop, Request, Runner}
)
