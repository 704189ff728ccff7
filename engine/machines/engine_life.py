"""The life of an engine: from its construction to its end, and who may use it meanwhile.

The table knows no event loop. flows/engine_life.py adds in which one an open engine may be used.
"""

from enum import StrEnum

from authstate.engine.machines.table import Row, Table
from authstate.engine.machines.words import IGNORED, Words


class LifeState(StrEnum):
    """How far an engine is."""

    NEW = "new"
    STARTING = "starting"
    OPEN = "open"
    CLOSED = "closed"


_NEW, _STARTING, _OPEN, _CLOSED = LifeState

ENGINE_LIFE_TABLE = Table(
    name="engine_life",
    title="Engine life",
    states=tuple(LifeState),
    initial=_NEW,
    rows=(
        Row("start", (_NEW,), _STARTING, "the engine was entered, or `start` was called: the stored login is read"),
        Row("started", (_STARTING,), _OPEN, "the stored login was read: the engine can be used"),
        Row("start_ended", (_STARTING,), _NEW, "the start was cancelled or failed: it may be tried again"),
        Row("close", tuple(LifeState), _CLOSED, "the engine was left, or `close` was called"),
    ),
)

ENGINE_LIFE_WORDS = Words(
    states={
        _NEW: "The engine was made, and nothing was read or written; its settings can be changed.",
        _STARTING: "The stored login is being read.",
        _OPEN: "The engine can be used, in the event loop that it was started in.",
        _CLOSED: "The engine has ended and cannot be used again.",
    },
    missing_in={
        (_CLOSED, "start"): "EngineClosed",
        (_CLOSED, "started"): "EngineClosed",
        **{(state, "start_ended"): IGNORED for state in (_NEW, _OPEN, _CLOSED)},
    },
)
