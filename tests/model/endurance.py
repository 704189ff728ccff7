"""Runs two engines through a million random operations: `python -m model.endurance 1000000 [SEED]` in `tests/`.

The operations, the reference model and the checks after each are those of test_stateful.py. Only the restart of an
engine is left out, so that the two engines live as long as the run. The test clears its own records now and then, so
that memory which grows belongs to the engines. Prints the memory of the process after each tenth of the operations.
The exit status is 1 if it grew.
"""

import gc
import sys
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from hypothesis.stateful import Rule
from model.test_stateful import AuthStateMachine

from authstate.adapters.conformance.held import Managed

_LEFT_OUT = ("restart",)
_FORGETS_EVERY = 100
GROWTH = 4 * 1024
"""How many kB the memory may grow after the first tenth of the operations."""


class Counted(list[str]):
    """A list that stores nothing and only counts. The issuer makes new names from its length."""

    def __init__(self) -> None:
        super().__init__()
        self._length = 0

    def append(self, _item: str) -> None:
        self._length += 1

    def __len__(self) -> int:
        return self._length


class Endurance:
    """One run.

    Args:
        seed: the seed of all random choices.
        on_disk: store the login in auth.json instead of in memory.
    """

    def __init__(self, seed: int, *, on_disk: bool = False) -> None:
        self._random = Random(seed)
        kind = type("Machine", (AuthStateMachine,), {"on_disk": on_disk})
        self.machine: AuthStateMachine = kind()
        self.machine.real.issuer.sent = Counted()
        state = kind.setup_state()  # type: ignore[attr-defined]
        self._rules: list[Rule] = [rule for rule in state.rules if rule.function.__name__ not in _LEFT_OUT]
        self._invariants = [invariant.function for invariant in state.invariants]
        self.machine.begin(logged_in=True, lifetime=3600.0)

    def run(self, operations: int) -> None:
        """Do this many operations and check the engines after each one. Raises AssertionError."""
        for number in range(operations):
            self._operate()
            if number % _FORGETS_EVERY == 0:
                self._forget()

    def close(self) -> None:
        """Close both engines."""
        self.machine.teardown()

    def _operate(self) -> None:
        rule = self._random.choice(self._rules)
        if not all(holds(self.machine) for holds in rule.preconditions):
            return
        drawn: dict[str, Any] = {
            name: self._random.choice(elements_of(strategy)) for name, strategy in rule.arguments.items()
        }
        if drawn.get("action") != "close":
            rule.function(self.machine, **drawn)
            for check in self._invariants:
                check(self.machine)

    def _forget(self) -> None:
        """Clear the test's records of tokens that no engine holds, and faults that did not occur yet."""
        machine, issuer, world = self.machine, self.machine.real.issuer, self.machine.world
        held = (
            world.stored,
            *(engine.held for engine in machine.models),
            *(one.pending_write for one in machine.models),
        )
        kept = {one.refresh for one in held if isinstance(one, Managed)}
        for known in (issuer._live, issuer._dead, world.dead):
            for token in set(known) - kept:
                del known[token]
        world.live &= kept
        for remembered in (issuer.grants, issuer.revoked, world.revoked):
            remembered.clear()
        issuer._errors.clear()
        world.faults.clear()
        issuer._partial = world.partial = 0
        machine.real.clock.slept.clear()
        for real, expected in zip(machine.reals, machine.models, strict=True):
            real.events.clear()
            real.authority.settled.clear()
            real.parent._answers.clear()
            real.parent.asked.clear()
            expected.parent.clear()


def elements_of(strategy: Any) -> Any:
    """The elements that a strategy of these rules chooses from. Hypothesis wraps a strategy until its first use."""
    return getattr(getattr(strategy, "wrapped_strategy", strategy), "elements", (False, True))


def resident() -> int:
    """The resident memory of this process, in kB."""
    gc.collect()
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


def main(arguments: list[str]) -> int:
    """Run and print the memory. Returns the exit status."""
    operations, seed = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    endurance, began, memory = Endurance(seed), perf_counter(), []
    for tenth in range(1, 11):
        endurance.run(operations // 10)
        memory.append(resident())
        took = perf_counter() - began
        print(f"{tenth * (operations // 10):>9} operations  {took:7.1f} s  {memory[-1]} kB", flush=True)
    endurance.close()
    grown = memory[-1] - memory[0]
    print(f"grew by {grown} kB after the first tenth")
    return int(grown > GROWTH)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
