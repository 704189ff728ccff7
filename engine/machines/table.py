"""What a state table is, and the machine that runs one.

A table is plain data: rows of trigger, sources, guard, target and effect. The `transitions` machine, the diagrams, the
docs and the model-based tests are all made from the rows, so they cannot disagree with the table.

The machine is synchronous and does no I/O. One machine serves any number of models. A model is any object with a
`state`, so it costs one attribute to give a recovery or a login attempt a state of its own.
"""

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec
from transitions import EventData, Machine, MachineError

from authstate.engine.model.errors import AuthError, TransitionRefused

_NAME = "authstate.engine"  # of all machines here


class Row(msgspec.Struct, frozen=True):
    """One line of a table: in any of `sources`, `trigger` leads to `target` if `guard` agrees, and causes `effect`."""

    trigger: str
    sources: tuple[str, ...]
    target: str
    meaning: str
    guard: str = ""
    effect: str = ""


class Table(msgspec.Struct, frozen=True):
    """A whole state machine as data."""

    name: str
    title: str
    states: tuple[str, ...]
    initial: str
    rows: tuple[Row, ...]

    @property
    def triggers(self) -> tuple[str, ...]:
        """Each trigger once, in the order of the rows."""
        return tuple(dict.fromkeys(row.trigger for row in self.rows))

    @property
    def finals(self) -> tuple[str, ...]:
        """The states that no row leaves."""
        left = {source for row in self.rows for source in row.sources}
        return tuple(state for state in self.states if state not in left)

    def target(self, state: str, trigger: str) -> str | None:
        """The state that the trigger leads to from `state` if its guard agrees. None if no row matches."""
        for row in self.rows:
            if row.trigger == trigger and state in row.sources:
                return row.target
        return None


class HasState(Protocol):
    """What a model must have: its current state. Only the machine sets it."""

    state: str


Guard = Callable[[Any, Any], AuthError | None]
"""Takes the model and the payload. Returns None to agree, or the error that says why not."""
Effect = Callable[[Any, Any], None]
"""Takes the model and the payload. Runs once the guard agreed, before the state changes."""


class _Firing:
    """One trigger that is being fired: its payload, and why the guard refused it."""

    __slots__ = ("payload", "refusal")

    def __init__(self, payload: object) -> None:
        self.payload = payload
        self.refusal: AuthError | None = None


def _is_of_others(record: logging.LogRecord) -> bool:
    """Whether a record of `transitions` is about a machine of somebody else. Its first argument is the machine's name.

    `transitions` writes about ten records for each transition. What they say is in `StateChanged`.
    """
    return not (isinstance(record.args, tuple) and record.args[:1] == (f"{_NAME}: ",))


logging.getLogger("transitions.core").addFilter(_is_of_others)


class TableMachine:
    """Runs a table with `transitions`.

    Args:
        table: the rows.
        guards: a function for each guard that the table names.
        effects: a function for each effect that the table names.
    """

    def __init__(
        self,
        table: Table,
        guards: Mapping[str, Guard] | None = None,
        effects: Mapping[str, Effect] | None = None,
    ) -> None:
        self.table = table
        self._machine = Machine(
            model=None,
            states=list(table.states),
            initial=table.initial,
            auto_transitions=False,
            send_event=True,
            name=_NAME,
        )
        for row in table.rows:
            self._machine.add_transition(
                row.trigger,
                list(row.sources),
                row.target,
                conditions=_condition((guards or {})[row.guard]) if row.guard else None,
                before=_callback((effects or {})[row.effect]) if row.effect and effects is not None else None,
            )

    def fire(self, model: HasState, trigger: str, payload: object = None) -> None:
        """Fire a trigger on a model.

        Args:
            payload: handed to the guard and the effect of the row.

        Raises:
            TransitionRefused: no row of the table allows it. The model did not change.
            AuthError: the guard's own error. The model did not change.
        """
        event = self._machine.events.get(trigger)
        if event is None:
            raise TransitionRefused(trigger, model.state)
        firing = _Firing(payload)
        try:
            moved = event.trigger(model, firing)
        except MachineError:
            raise TransitionRefused(trigger, model.state) from None
        if not moved:
            raise firing.refusal or TransitionRefused(trigger, model.state)


@lru_cache(maxsize=16)
def shared_machine(table: Table) -> TableMachine:
    """The one machine for all models of a table without guards and effects. Cached: building it is slow."""
    return TableMachine(table)


def _condition(guard: Guard) -> Callable[[EventData], bool]:
    def agrees(event: EventData) -> bool:
        firing = _firing(event)
        firing.refusal = guard(event.model, firing.payload)
        return firing.refusal is None

    return agrees


def _callback(effect: Effect) -> Callable[[EventData], None]:
    def happens(event: EventData) -> None:
        effect(event.model, _firing(event).payload)

    return happens


def _firing(event: EventData) -> _Firing:
    (firing,) = event.args
    assert isinstance(firing, _Firing)
    return firing
