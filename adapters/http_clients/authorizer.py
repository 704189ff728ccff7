"""What an HTTP client needs of an engine: a token for a request, and another one after a 401."""

import asyncio
from typing import Protocol

from authstate.engine.model.arguments import ensure_methods
from authstate.engine.model.errors import WrongEventLoop
from authstate.engine.model.events import is_coroutine_function
from authstate.engine.model.session import Authorization


class Authorizer(Protocol):
    """The part of an `AuthEngine` that authorizes requests in its event loop."""

    def fresh_authorization(self) -> Authorization | None:
        """Return a token that can be used as it is. None if it takes a wait: `authorization` does that."""
        ...

    async def authorization(self) -> Authorization:
        """Return a token that can be used. See `AuthEngine.authorization`."""
        ...

    async def recover(self, refused: Authorization) -> Authorization:
        """Return the token for another attempt after a 401. See `AuthEngine.recover`."""
        ...


class SyncAuthorizer(Protocol):
    """The part of a `SyncAuthEngine` that authorizes requests, in any thread.

    An object may also have the method `ensure_may_wait`, as `SyncAuthEngine` has it. Without it, the methods that block
    are not called in a thread in which an event loop runs, because they may need that loop.
    """

    def fresh_authorization(self) -> Authorization | None:
        """Return a token that can be used as it is, without a wait. None if it takes one: `authorization` does that."""
        ...

    def authorization(self) -> Authorization:
        """Return a token that can be used. Blocks. See `AuthEngine.authorization`."""
        ...

    def recover(self, refused: Authorization) -> Authorization:
        """Return the token for another attempt after a 401. Blocks. See `AuthEngine.recover`."""
        ...


def ensure_async(engine: Authorizer, taker: str) -> None:
    """Check the engine that is given to `taker`, which awaits it.

    Raises:
        TypeError: it is no `Authorizer`.
    """
    ensure_methods(engine, _METHODS, "engine", f"{taker} an AuthEngine, such as open_engine()")
    if not is_coroutine_function(engine.authorization):
        raise TypeError(f"{taker} takes an AuthEngine: give this engine to {_TWIN[taker]}")


def ensure_sync(engine: SyncAuthorizer, taker: str) -> None:
    """Check the engine that is given to `taker`, which calls it.

    Raises:
        TypeError: it is no `SyncAuthorizer`.
    """
    ensure_methods(engine, _METHODS, "engine", f"{taker} a SyncAuthEngine, such as SyncAuthEngine(open_engine())")
    if is_coroutine_function(engine.authorization):
        raise TypeError(f"{taker} takes a SyncAuthEngine: give an AuthEngine to {_TWIN[taker]}")


def ensure_may_wait(engine: SyncAuthorizer) -> None:
    """Return if waiting for an engine can end in this thread.

    Raises:
        WrongEventLoop: it cannot, or an event loop runs in this thread and the engine cannot tell.
    """
    if (ensure := getattr(engine, "ensure_may_wait", None)) is not None:
        ensure()
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WrongEventLoop(
        "an event loop runs in this thread, and waiting here for a token would block it, perhaps for ever: send the "
        "request with an asynchronous client and EngineAuth, or in another thread (`await asyncio.to_thread(...)`)"
    )


_METHODS = ("fresh_authorization", "authorization", "recover")
_TWIN = {
    "EngineAuth": "SyncEngineAuth",
    "SyncEngineAuth": "EngineAuth",
    "token_provider": "sync_token_provider",
    "sync_token_provider": "token_provider",
}
