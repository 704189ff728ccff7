"""Time, and who runs next. One thread; processes are greenlets that stop at every step and go on when they are chosen.

A step is a callback of a process's event loop (what runs between two awaits) or one operation on the disk. Between any
two steps of a process, any other process may run, time may pass, or the process may die.
"""

import asyncio
import heapq
from collections.abc import Callable
from contextlib import suppress
from errno import ENODEV
from itertools import count
from typing import Any, NamedTuple

from greenlet import getcurrent, greenlet
from model.simulation.loop import ProcessLoop


class Killed(BaseException):
    """Unwinds a process that died in the middle of a step. Nothing that it does on its way has an effect."""


class About(NamedTuple):
    """What happens on the network, for who chooses among such things."""

    process: str
    what: str
    wakes: bool = False
    """The process sees it."""


class Runner:
    """The running of one process: its event loop, and where it stopped."""

    def __init__(self, scheduler: "Scheduler", name: str, print_error: Callable[[str], None]) -> None:
        self.name = name
        self.alive = True
        self.paused: str | None = None
        """The operation on the disk that it is about to do; None between two callbacks."""
        self.fault: OSError | None = None
        """What that operation will raise."""
        self.stalled_until = 0.0
        self.stalled_for = 0.0
        self.loop = ProcessLoop(scheduler, print_error)  # type: ignore[abstract]  # it has what these programs use
        self._scheduler = scheduler
        self._greenlet = greenlet(self._run)

    def can_run(self) -> bool:
        """Whether it has a step to do now."""
        return (
            self.alive
            and self.stalled_until <= self._scheduler.now
            and (self.paused is not None or bool(self.loop.ready))
        )

    def step(self) -> None:
        """Run to the next stop."""
        asyncio._set_running_loop(self.loop)
        try:
            self._greenlet.switch()
        finally:
            asyncio._set_running_loop(None)

    def pause(self, operation: str) -> None:
        """Stop before an operation on the disk. Raises the fault that was chosen for it, if one was."""
        if not self.alive:
            raise OSError(ENODEV, "the process is gone")
        if getcurrent() is not self._greenlet:
            return  # the world looks at the disk itself
        self.paused = operation
        task = asyncio.current_task(self.loop)
        if task is not None:
            asyncio.tasks._leave_task(self.loop, task)
        try:
            self._scheduler.main.switch()
        finally:
            if task is not None:
                asyncio.tasks._enter_task(self.loop, task)
            self.paused = None
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault

    def stall(self, seconds: float) -> None:
        """Stand still for a while, wherever it is: a slow disk, a busy machine, a laptop asleep."""
        until = self._scheduler.now + seconds
        self.stalled_for += seconds
        self.stalled_until = until
        self._scheduler.wake_at(until)

    def kill(self) -> None:
        """End it here. Its lock, its timers and its tasks are gone; its cleanup has no effect on anything."""
        self.alive = False
        asyncio._set_running_loop(self.loop)
        try:
            if self._greenlet:
                self._greenlet.throw(Killed)
            for task in self.loop.tasks:
                if not task.done():
                    lost: Any = task
                    lost._log_destroy_pending = False
                    self._close(task)
        finally:
            asyncio._set_running_loop(None)
            self.loop.ready.clear()
            self.loop.tasks.clear()

    def _close(self, task: asyncio.Task[Any]) -> None:
        """Unwind a task that waits somewhere, now and not when the garbage is collected."""
        work = task.get_coro()
        with suppress(Killed, RuntimeError, OSError):
            work.close()

    def _run(self) -> None:
        with suppress(Killed):
            while self.alive:
                handle = self.loop.take(self._scheduler.order(self))
                if not handle.cancelled():
                    handle._run()
                if self.alive:
                    self._scheduler.main.switch()


class Scheduler:
    """Owns time and order.

    Args:
        choose: which of several processes does the next step.
        order: which of the ready callbacks of a process runs, by its index; 0 is asyncio's own order.
    """

    def __init__(self, choose: Callable[[list[Runner]], Runner], order: Callable[[Runner], int]) -> None:
        self.now = 0.0
        self.steps = 0
        self.runners: list[Runner] = []
        self.main = getcurrent()
        self.order = order
        self._choose = choose
        self._timers: list[tuple[float, int, ProcessLoop | None, asyncio.Handle | Callable[[], None] | None]] = []
        self._numbers = count()

    def at(self, when: float, owner: ProcessLoop | None, handle: asyncio.Handle | None) -> None:
        """Make a callback ready in its process's loop at that time."""
        heapq.heappush(self._timers, (when, next(self._numbers), owner, handle))

    def wake_at(self, when: float) -> None:
        """Let time stop at that moment, so that who was stalled goes on."""
        heapq.heappush(self._timers, (when, next(self._numbers), None, None))

    def after(self, delay: float, happening: Callable[[], None], about: About | None = None) -> None:
        """Let something happen in the world, in no process."""
        heapq.heappush(self._timers, (self.now + delay, next(self._numbers), None, happening))

    def runnable(self) -> list[Runner]:
        """Who has a step to do now."""
        return [runner for runner in self.runners if runner.can_run()]

    def run(self, interfere: Callable[[Runner], bool], most_steps: int) -> bool:
        """Run until nothing is left to do. Tells whether that was within `most_steps`.

        Args:
            interfere: called before each step with who is to do it; it may do anything to anybody. False: the step
                is not done now.
        """
        limit = self.steps + most_steps
        while self.steps < limit:
            runnable = self.runnable()
            if not runnable:
                if not self.advance():
                    return True
                continue
            runner = runnable[0] if len(runnable) == 1 else self._choose(runnable)
            self.steps += 1
            if interfere(runner):
                runner.step()
        return False

    def advance(self) -> bool:
        """Let time pass until the next timer. Tells whether there was one."""
        while self._timers:
            when, _, owner, what = heapq.heappop(self._timers)
            if isinstance(what, asyncio.Handle):
                if what.cancelled():
                    continue
                assert owner is not None
                owner.ready.append(what)
            self.now = max(self.now, when)
            if callable(what):
                what()
            return True
        return False

    def forget(self, runner: Runner) -> None:
        """Drop a dead process."""
        self.runners.remove(runner)
