"""The memory of a process as one value, while none of its code runs: equal values go on in equal ways.

From its roots, every object is followed to every object that it refers to, and numbered in the order in which it is
met. So the value holds what each object is, and which of them are the same one. A coroutine is where it stands, and
all that its frame refers to, the temporary values of an expression or of a `with` among them: the garbage collector
knows them.

Left out: what cannot change (code, classes, modules, tables of a state machine), and what is no part of the process:
the world's own objects, which are described by the surroundings. Names of tasks are left out, too: nobody looks at
them.
"""

import asyncio
import gc
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from enum import Enum
from functools import cache
from random import Random
from typing import Any

import msgspec

from authstate.engine.machines.recovery import RecoveryPlan
from authstate.engine.machines.table import TableMachine
from authstate.engine.model.refresh_settings import RefreshSettings

_VALUES = frozenset({bool, int, float, range})
_SELF_EVIDENT = frozenset({type(None), str, bytes, types.ModuleType, types.CodeType})
_ALIKE = frozenset({TableMachine, RecoveryPlan, RefreshSettings, types.TracebackType})
"""Alike in all processes and for ever, or nothing that code looks at."""
_TRANSPARENT = frozenset({"TaskStepMethWrapper", "FutureIter", "coroutine_wrapper", "cell", "async_generator_asend"})
"""Types without a state of their own: they are what they refer to."""
_ITERATORS = frozenset({"tuple_iterator", "list_iterator", "range_iterator", "dict_keyiterator"})
_STOPWATCH = frozenset({"start_time", "outcome_timestamp"})
"""What tenacity notes of the real time. Nobody looks at it: the engine measures with its own clock."""
_kept: dict[object, object] = {}
"""One copy of each part of a memory: most parts of two memories are equal."""

Parts = Callable[[Any], Iterable[object]]


def memory_of(roots: Iterable[object], outside: frozenset[type]) -> tuple[object, ...]:
    """The memory that can be reached from the roots.

    Args:
        roots: where it begins.
        outside: classes of objects that belong to the world; of their instances, only the class counts.

    Raises:
        TypeError: an object is of a kind of which it is not known what it is made of.
    """
    numbers: dict[int, int] = {}
    met: list[Any] = []

    def name(thing: Any) -> object:
        """A value by itself; an object by its number, and it is looked at when its turn comes."""
        kind = type(thing)
        if kind in _SELF_EVIDENT:
            return thing
        if kind in _VALUES or isinstance(thing, Enum | type):
            return kind, thing
        if kind is types.FunctionType and thing.__closure__ is None:
            return thing.__code__
        number = numbers.setdefault(id(thing), len(met))
        if number == len(met):
            met.append(thing)
        return number

    found: list[object] = [tuple(map(name, roots))]
    for thing in met:  # it grows while it is gone through
        kind: Any = type(thing)
        part = kind if kind in outside or kind in _ALIKE else (kind, *map(name, _parts_of(kind)(thing)))
        found.append(_kept.setdefault(part, part))
    return tuple(found)


@cache
def _parts_of(kind: type) -> Parts:
    """How to take an object of that class apart, in an order that is always the same."""
    for known, parts in _PARTS.items():
        if issubclass(kind, known):
            return parts
    if kind.__name__ in _TRANSPARENT:
        return gc.get_referents
    if kind.__name__ in _ITERATORS:
        return lambda thing: thing.__reduce__()[1:]
    slots = [slot for base in kind.__mro__ for slot in base.__dict__.get("__slots__", ()) if not slot.startswith("__")]
    if slots or kind.__dictoffset__:
        return lambda thing: [*(getattr(thing, slot, None) for slot in slots), *_named(getattr(thing, "__dict__", {}))]
    raise TypeError(f"what is a {kind.__module__}.{kind.__qualname__} made of?")


def _named(things: Mapping[Any, Any]) -> Iterable[object]:
    return [part for pair in things.items() if pair[0] not in _STOPWATCH for part in pair]


def _set(things: Any) -> Iterable[object]:
    return sorted(things) if len(things) > 1 else things


def _suspended(thing: Any, kind: str) -> Iterable[object]:
    """A coroutine or generator: what it runs, where it stands, and all that its frame refers to."""
    frame, code = getattr(thing, f"{kind}_frame"), getattr(thing, f"{kind}_code")
    if frame is None:
        return (code,)
    assert kind == "ag" or not getattr(thing, f"{kind}_running"), "its code runs: the memory is no value now"
    variables = frame.f_locals
    referents = [part for part in gc.get_referents(thing) if part is not frame and part is not variables]
    if referents[-1] is None:
        referents.pop()  # no exception is being handled: sometimes that is None, and sometimes nothing
    return (code, frame.f_lasti, dict(variables), *referents)


def _future(thing: Any) -> Iterable[object]:
    outcome = (thing._exception, None if thing._exception else thing._result) if thing._state == "FINISHED" else ()
    return (thing._state, thing._log_traceback, thing._callbacks, *outcome)


def _task(thing: Any) -> Iterable[object]:
    coroutine = None if thing.done() else thing.get_coro()
    return (*_future(thing), coroutine, thing._must_cancel, thing.cancelling(), thing._fut_waiter)


_PARTS: dict[type, Parts] = {
    tuple: lambda thing: thing,
    list: lambda thing: thing,
    deque: lambda thing: thing,
    dict: _named,
    Context: _named,
    set: _set,
    frozenset: _set,
    types.FunctionType: lambda thing: (thing.__code__, *thing.__closure__),
    types.BuiltinFunctionType: lambda thing: (thing.__name__, thing.__self__),
    types.MethodType: lambda thing: (thing.__func__, thing.__self__),
    types.CoroutineType: lambda thing: _suspended(thing, "cr"),
    types.GeneratorType: lambda thing: _suspended(thing, "gi"),
    types.AsyncGeneratorType: lambda thing: _suspended(thing, "ag"),
    asyncio.Task: _task,
    asyncio.Future: _future,
    asyncio.Handle: lambda thing: (thing._callback, thing._args, thing._cancelled),
    threading.local: lambda thing: _named(thing.__dict__),
    Random: lambda thing: (hash(thing.getstate()),),
    BaseException: lambda thing: (thing.args, vars(thing), thing.__cause__, thing.__context__),
    msgspec.Struct: lambda thing: [getattr(thing, field) for field in thing.__struct_fields__],
}
