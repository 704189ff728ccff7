"""Says at once that an engine is used before its start, after its end, or in another event loop.

Without this, a call from another event loop would wait for ever for a future that only the engine's loop completes.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from authstate.engine.machines.engine_life import ENGINE_LIFE_TABLE, LifeState
from authstate.engine.machines.table import shared_machine
from authstate.engine.model.errors import (
    AuthError,
    AuthstateError,
    EngineClosed,
    EngineNotStarted,
    GivenArguments,
    TransitionRefused,
    WrongEventLoop,
    strip_tracebacks,
)

_C = TypeVar("_C")

_STARTED_BEFORE = "this engine was started before, and starts only once: use it as it is, or open another one"

_OF_THE_LIFE = ("start", "close")  # they change it, and check by themselves


class EngineLife:
    """How far one engine is, and the event loop that it runs in. `state` is set by the table alone."""

    def __init__(self) -> None:
        self.state: str = ENGINE_LIFE_TABLE.initial
        self._loop: asyncio.AbstractEventLoop | None = None  # that it was started in
        self._usable_in: asyncio.AbstractEventLoop | None = None  # the same while the engine is open

    def ensure_usable(self) -> None:
        """Return if the engine is open and runs in the event loop of the caller.

        Raises:
            EngineNotStarted, EngineClosed, WrongEventLoop: it cannot be used here and now.
        """
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            raise self._refusal(None) from None
        if here is not self._usable_in:
            raise self._refusal(here)

    def ensure_open(self) -> None:
        """Return if the engine is open. Safe in any thread.

        Raises:
            EngineNotStarted, EngineClosed: it is not.
        """
        if self._usable_in is None:
            raise self._refusal(None)

    def ensure_changeable(self) -> None:
        """Return if a setting of the engine may be changed here: anywhere before its start, and then in its event loop.

        Raises:
            EngineClosed, WrongEventLoop: it may not.
        """
        if self.state == LifeState.CLOSED:
            raise EngineClosed
        self._ensure_here()

    @asynccontextmanager
    async def starting(self) -> AsyncGenerator[None, None]:
        """Surround the start of the engine. If that is cancelled or fails, the engine may be started again.

        Raises:
            EngineClosed: the engine was closed, before or meanwhile.
            WrongEventLoop: asyncio does not run here, or the engine was started in another event loop.
            TransitionRefused: the engine was started already.
        """
        self.ensure_changeable()
        here = _running_loop()
        if here is None:
            raise _elsewhere(None, None)
        try:
            shared_machine(ENGINE_LIFE_TABLE).fire(self, "start")
        except TransitionRefused:
            raise TransitionRefused("start", self.state, _STARTED_BEFORE) from None
        self._loop = here
        try:
            yield
        except BaseException:
            if self.state == LifeState.STARTING:
                shared_machine(ENGINE_LIFE_TABLE).fire(self, "start_ended")
            raise
        if self.state == LifeState.CLOSED:
            raise EngineClosed
        shared_machine(ENGINE_LIFE_TABLE).fire(self, "started")
        self._usable_in = here

    def close(self) -> None:
        """End the life of the engine. Nothing changes if it has ended.

        Raises:
            WrongEventLoop: the engine runs in another event loop.
        """
        self._ensure_here()
        shared_machine(ENGINE_LIFE_TABLE).fire(self, "close")
        self._usable_in = None

    def _ensure_here(self) -> None:
        """Raise WrongEventLoop if the engine was started in another event loop than that of the caller."""
        if self._loop is not None and self.state != LifeState.NEW and (here := _running_loop()) is not self._loop:
            raise _elsewhere(here, self._loop)

    def _refusal(self, here: asyncio.AbstractEventLoop | None) -> AuthError:
        """Why the engine cannot be used in this event loop now."""
        if self.state == LifeState.OPEN:
            return _elsewhere(here, self._loop)
        return EngineClosed() if self.state == LifeState.CLOSED else EngineNotStarted()


def guard_methods(kind: type[_C]) -> type[_C]:
    """Decorate every public coroutine function of an engine's class: it first ensures that the engine can be used
    here, and an error leaves it as it leaves a function with `strip_tracebacks`.

    The class keeps its life in `_life`.
    """
    for name, member in tuple(vars(kind).items()):
        if not name.startswith("_") and iscoroutinefunction(member):
            setattr(kind, name, strip_tracebacks(member) if name in _OF_THE_LIFE else _guarded(member))
    return kind


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = GivenArguments((self, *args), kwargs)
        del args, kwargs
        try:
            self._life.ensure_usable()
            return await given.pass_to(function)
        except AuthstateError as error:
            stripped = error.without_traceback()
        raise stripped

    return guarded


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _elsewhere(here: asyncio.AbstractEventLoop | None, home: asyncio.AbstractEventLoop | None) -> WrongEventLoop:
    if here is None:
        return WrongEventLoop(
            "no event loop of asyncio runs in this thread, and an AuthEngine is used only in the one that it was "
            "started in: hold a SyncAuthEngine, which any thread may use"
        )
    fate = "that has ended" if home is not None and home.is_closed() else "and this is another one"
    return WrongEventLoop(
        f"this engine was started in an event loop {fate}: open an engine in each event loop, or hold a "
        "SyncAuthEngine, which any thread may use"
    )
