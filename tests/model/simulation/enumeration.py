"""Every history of a small scope: each choice is taken at each point, depth first, on the real engine and store.

Histories meet again, and what follows a meeting is looked at once. That is exact, and not an assumption about which
steps commute:

- A point in a history is what each process is, and everything else: the disk with what is synced and what is not, the
  lock, the messages, the time and the ledger, as one value (`Shared`). What a process is, is its memory, as one value
  (memory.py); while it stands at an operation on the disk, in the middle of its code, it is what its memory was when
  that code began, and all that this code saw since: what the disk and the clock gave it, and who called. Values are
  compared as a whole, not by a hash. Equal points have the same future, and only the first of them is followed.
- A choice changes one process at most, and what is shared, and depends on nothing else. So what came of it once is
  known wherever the same process meets the same surroundings, whatever the other process is, and is not run again
  there. What touched nothing that is shared is known in all surroundings of the same time. What a crash leaves
  depends on what is shared alone: the memory of who dies is gone.
- Which of two processes with the same callers is called first does not matter, for they are alike but for their
  names: p1 is.

A world is brought to a point by playing its choices again from the beginning, and each time it is asserted that this is
the same point again: if anything followed from what is not compared here, that would fail. `ByPast` compares all that a
process ever saw in the place of its memory: slower, and it must count the same histories.

Steps within a process run in asyncio's own order. Callers come at any point, so their order is free.
"""

import gc
from collections import Counter
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from model.simulation.small_scope import (
    CRASHES,
    MISHAPS,
    NAMES,
    Choice,
    Local,
    Scope,
    Seen,
    Shared,
    SmallScope,
    choices,
)

T = TypeVar("T")

_GONE = 0
"""What a process is that is dead."""


class State(NamedTuple):
    """A point: the numbers of what is shared, and of what each process is."""

    shared: int
    processes: tuple[int, ...]


_END = State(-1, ())


class Figures(NamedTuple):
    """What was covered."""

    interleavings: int
    """Histories from the beginning to an end, each different from all others in at least one choice."""
    with_a_mishap: int
    """How many of them have a mishap."""
    points_before: int
    """Different points at which something was chosen, and nothing had gone wrong yet."""
    points_after: int
    """Different points at which something had gone wrong before."""
    mishap_points: int
    """Pairs of a point and a mishap there."""
    ends: Counter[str]
    """Points at which everything was over, by what was lost on the way and what became of the login."""
    steps_run: int
    """Choices that were run in a world, replays left out: the others were known."""
    replays: int

    def described(self) -> dict[str, object]:
        """For a report."""
        return {**self._asdict(), "ends": dict(self.ends)}

    def with_other_mishaps(self, other: "Figures") -> "Figures":
        """The figures of a scope, of two enumerations of it in which other things go wrong."""
        assert self.points_before == other.points_before
        calm = self.interleavings - self.with_a_mishap
        assert calm == other.interleavings - other.with_a_mishap
        return Figures(
            interleavings=calm + self.with_a_mishap + other.with_a_mishap,
            with_a_mishap=self.with_a_mishap + other.with_a_mishap,
            points_before=self.points_before,
            points_after=self.points_after + other.points_after,
            mishap_points=self.mishap_points + other.mishap_points,
            ends=self.ends + other.ends,
            steps_run=self.steps_run + other.steps_run,
            replays=self.replays + other.replays,
        )


class Enumeration:
    """One enumeration of a scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._processes: _Numbers[Local] = _Numbers()
        self._processes.of("gone", Local())
        self._shared: _Numbers[Shared] = _Numbers()
        self._known: dict[tuple[int, Choice, int], tuple[int, int]] = {}
        """What a process and the surroundings become: by the process, the choice and the surroundings before."""
        self._alone: dict[tuple[int, Choice, float], int] = {}
        """What a process becomes with a choice that has nothing to do with the surroundings, but for the time."""
        self._came_from: dict[State, tuple[State, Choice]] = {}
        self._ends: Counter[str] = Counter()
        self._steps_run = self._replays = 0
        self._world = SmallScope(scope)
        processes = [self._processes.of(("begins", name), self._world.local(name)) for name in NAMES]
        self._begin = self._at = State(self._number_of_shared(), tuple(processes))

    def run(self) -> Figures:
        """All of it. Raises Violation with the timeline of the history that broke a promise."""
        sums: dict[State, tuple[int, int]] = {_END: (1, 0)}
        mishaps = 0
        branch = [(self._begin, self._choices(self._begin))]
        nexts: dict[State, list[tuple[State, bool]]] = {self._begin: []}
        while branch:
            state, left = branch[-1]
            choice = next(left, None)
            if choice is None:
                branch.pop()
                sums[state] = _sum([(sums[after], is_mishap) for after, is_mishap in nexts.pop(state)])
                continue
            after, is_mishap = self._after(state, choice), choice.kind in MISHAPS
            mishaps += is_mishap
            nexts[state].append((after, is_mishap))
            if after not in self._came_from and after != _END:
                self._came_from[after] = (state, choice)
                nexts[after] = []
                branch.append((after, self._choices(after)))
        del sums[_END]
        spoilt = sum(not self._shared.values[state.shared].mishaps for state in sums)
        calm = len(sums) - spoilt
        return Figures(*sums[self._begin], calm, spoilt, mishaps, self._ends, self._steps_run, self._replays)

    def points(self) -> set[tuple[Shared, tuple[Local, ...]]]:
        """Every point that was met, as it looks from outside."""
        return {self._look(state) for state in (self._begin, *self._came_from)}

    def _look(self, state: State) -> tuple[Shared, tuple[Local, ...]]:
        return self._shared.values[state.shared], tuple(self._processes.values[number] for number in state.processes)

    def _choices(self, state: State) -> Iterator[Choice]:
        found = choices(*self._look(state))
        if state != self._begin or len(set(self._scope.calls)) > 1:
            return found
        return (choice for choice in found if choice != Choice("call", NAMES[1]))

    def _after(self, state: State, choice: Choice) -> State:
        """The point that a choice leads to."""
        if choice.kind == "close":
            return self._close(state)
        at = NAMES.index(choice.process) if choice.process else -1
        who = _GONE if choice.kind in CRASHES else state.processes[at]
        process, shared = self._alone.get((who, choice, self._shared.values[state.shared].now)), state.shared
        if process is None:
            process, shared = self._known.get((who, choice, state.shared)) or self._run(state, choice, at, who)
        if choice.kind == "power":
            return State(shared, (_GONE,) * len(NAMES))
        return State(shared, (*state.processes[:at], process, *state.processes[at + 1 :]))

    def _close(self, state: State) -> State:
        self._go_to(state)
        self._world.take(Choice("close"))
        self._ends.update(self._world.outcome())
        self._at = _END
        return _END

    def _run(self, state: State, choice: Choice, at: int, who: int) -> tuple[int, int]:
        """Run a choice in the world. Returns what its process is then, and what is shared."""
        self._go_to(state)
        self._steps_run += 1
        seen = self._world.take(choice)
        locals_ = [self._world.local(name) for name in NAMES]
        processes = [old if local.lives else _GONE for old, local in zip(state.processes, locals_, strict=True)]
        if processes[at] != _GONE and (choice.kind != "message" or seen.things):
            identity = self._identity(choice.process, who, choice, seen)
            processes[at] = self._processes.of(identity, locals_[at])
        self._at = State(self._number_of_shared(), tuple(processes))
        found = self._known[who, choice, state.shared] = (processes[at], self._at.shared)
        if self._at.shared == state.shared and not seen.things and not seen.asked_ledger:
            self._alone[who, choice, self._shared.values[state.shared].now] = processes[at]
        return found

    def _identity(self, name: str, before: int, choice: Choice, seen: Seen) -> object:
        """What a process is now, as a value."""
        memory = self._world.memory(name)
        return (before, choice, seen[:2]) if memory is None else memory

    def _go_to(self, state: State) -> None:
        """Be at that point: stay there, or replay the way to it."""
        if self._at == state:
            return
        way = []
        before = state
        while before != self._begin:
            before, choice = self._came_from[before]
            way.append(choice)
        self._replays += 1
        if self._replays % 1000 == 0:
            gc.collect()
            gc.freeze()  # what was met stays; without this, each collection would look at all of it
        self._world.close()
        self._world = SmallScope(self._scope)
        for choice in reversed(way):
            self._world.take(choice)
        self._assert_is_at(state)
        self._at = state

    def _assert_is_at(self, state: State) -> None:
        assert self._number_of_shared() == state.shared, "a replay came to another point"
        for name, number in zip(NAMES, state.processes, strict=True):
            assert self._world.local(name) == self._processes.values[number], f"a replay made another {name}"
            memory = self._world.memory(name) if self._replays % 10 == 0 else None
            assert self._processes.numbers.get(memory, number) == number, f"a replay made another {name}"

    def _number_of_shared(self) -> int:
        shared = self._world.shared()
        return self._shared.of(shared, shared)


class ByPast(Enumeration):
    """Tells processes apart by all that they ever saw: another way to the same figures, for smaller scopes."""

    def _identity(self, name: str, before: int, choice: Choice, seen: Seen) -> object:
        return before, choice, seen[:2]


class _Numbers(Generic[T]):
    """Numbers for values, in the order in which they are met, and what is said of each of them."""

    def __init__(self) -> None:
        self.numbers: dict[object, int] = {}
        self.values: list[T] = []

    def of(self, key: object, value: T) -> int:
        """The number of a key."""
        number = self.numbers.setdefault(key, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        assert self.values[number] == value, "what seemed to be the same is not"
        return number


def _sum(nexts: list[tuple[tuple[int, int], bool]]) -> tuple[int, int]:
    """How many histories go on from a point, and how many of them have a mishap yet to come."""
    return sum(all_ for (all_, _), _ in nexts), sum(all_ if is_mishap else some for (all_, some), is_mishap in nexts)
