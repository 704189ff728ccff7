"""SyncAuthEngine: the engine for code without an event loop, such as scripts, synchronous frameworks and programs with
windows.

    with SyncAuthEngine(open_engine()) as engine:
        headers = engine.authorization().headers()

Theory of operation. The `AuthEngine` runs in an event loop in a thread of its own (loop_thread.py). What only reads is
read in the caller's thread, and so is an authorization while its token is fresh. All else is called in the event loop,
and the caller waits for it.
"""

import atexit
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from threading import RLock
from typing import Concatenate, ParamSpec, Self, TypeVar

from authstate.adapters.loop_thread import LoopEnded, LoopThread
from authstate.engine.engine import AuthEngine
from authstate.engine.flows.background import Background
from authstate.engine.flows.refresh_urgency import Urgency
from authstate.engine.machines.refresh_trace import TraceStep
from authstate.engine.model.arguments import ensure_instance
from authstate.engine.model.credentials import (
    ChatgptTokens,
    ExternalTokens,
    StaticCredentials,
    read_static_credentials,
)
from authstate.engine.model.errors import (
    AuthError,
    EngineClosed,
    EngineNotStarted,
    IssuerUnavailable,
    StoreUnavailable,
    strip_tracebacks,
)
from authstate.engine.model.events import AsyncListener, AuthMode, Listener
from authstate.engine.model.policy import Policy
from authstate.engine.model.session import Authorization, Session
from authstate.engine.ports import ExternalTokenSource

P = ParamSpec("P")
T = TypeVar("T")

_GRACE_AT_EXIT = 30.0  # seconds for a refresh token that is being spent when the program ends without `close`
_SLACK = 1.0  # seconds for the end of the engine after its grace


class SyncAuthEngine:
    """Owns the lifecycle of one login, for code that has no event loop. Any number of threads may share it.

    It has the methods of `AuthEngine`, which describes their arguments and errors. Each waits for its result. An
    exception that ends the wait, such as KeyboardInterrupt after Ctrl-C, cancels the call and no refresh.

    Every method that waits also raises `EngineNotStarted` before the start, `EngineClosed` after the end, and
    `WrongEventLoop` in a listener and in a fork of the process. Leave the engine through `with`, or call `close`: it
    waits for a refresh token that is being spent. If the program ends without it, the same is tried at exit.

    Args:
        engine: an engine that was not started, as `open_engine` returns it. Use it only through this object.

    Raises:
        TypeError: the argument is no AuthEngine.
    """

    def __init__(self, engine: AuthEngine) -> None:
        ensure_instance(engine, AuthEngine, "engine", "an AuthEngine that was not started, such as open_engine()")
        self._engine = engine
        self._thread = LoopThread()
        self._is_closed = False
        self._life = RLock()  # held by `start` and `close`

    # Current state: read in the caller's thread

    @property
    def session(self) -> Session:
        """The current snapshot. Costs two attribute reads."""
        return self._engine.session

    @property
    def policy(self) -> Policy:
        """The restrictions in force. `set_policy` changes them."""
        return self._engine.policy

    @property
    def auth_mode(self) -> AuthMode | None:
        """How the account is signed in."""
        return self._engine.auth_mode

    @property
    def store_fault(self) -> StoreUnavailable | None:
        """Why the store could not be read at the start."""
        return self._engine.store_fault

    @property
    def identity_fault(self) -> AuthError | None:
        """Why the owner of the personal access token is not known."""
        return self._engine.identity_fault

    @property
    def refresh_fault(self) -> IssuerUnavailable | None:
        """Why the last try of the refresh that is under way, or was last, failed."""
        return self._engine.refresh_fault

    @property
    def pause_reason(self) -> IssuerUnavailable | None:
        """Why the issuer is not asked just now."""
        return self._engine.pause_reason

    @property
    def is_refreshing(self) -> bool:
        """Whether a refresh is under way."""
        return self._engine.is_refreshing

    @property
    def parent(self) -> ExternalTokenSource | None:
        """Whom to ask for new external tokens after a 401. It is asked in the event loop of the engine."""
        return self._engine.parent

    @parent.setter
    def parent(self, parent: ExternalTokenSource | None) -> None:
        self._change(lambda: setattr(self._engine, "parent", parent))

    def urgency(self) -> Urgency:
        """How urgent a refresh is by the clock alone."""
        return self._engine.urgency()

    def is_expired(self) -> bool:
        """Whether the current access token is past its `exp` by the wall clock."""
        return self._engine.is_expired()

    def subscribe(self, listener: Listener | AsyncListener) -> Callable[[], None]:
        """Call `listener` with every event, in order, in the thread of the engine. A function must not block, and it
        must not call a method of this object that waits. Returns a function that ends the subscription.
        """
        return self._subscribe(lambda: self._engine.subscribe(listener))

    def subscribe_trace(self, listener: Callable[[TraceStep], None]) -> Callable[[], None]:
        """As `AuthEngine.subscribe_trace`. The listener is called in the thread of the engine."""
        return self._subscribe(lambda: self._engine.subscribe_trace(listener))

    def _subscribe(self, subscribe: Callable[[], Callable[[], None]]) -> Callable[[], None]:
        async def subscribe_there() -> Callable[[], None]:
            return subscribe()

        is_elsewhere = self._thread.is_running and not self._thread.is_current
        return self._call(subscribe_there) if is_elsewhere else subscribe()

    # Start and end

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._thread.was_forked:  # it is the parent's to close
            self.close()

    def start(self) -> Session:
        """Start the event loop in its thread, restore the stored login, and return the session."""
        self._thread.ensure_may_wait()
        with self._life:
            if self._is_closed:
                raise EngineClosed
            is_new = self._thread.start()
            try:
                session = self._call(self._engine.start)
            except BaseException:
                if is_new:
                    self._thread.stop()
                raise
            _running.add(self)
            return session

    def close(self, grace: float = 30.0) -> None:
        """End the engine and its thread: wait for a refresh token that is being spent, at most `grace` seconds. Calls
        that wait in other threads end with an error. May be called again.
        """
        self._thread.ensure_may_wait()
        with self._life:
            self._is_closed = True
            try:
                with suppress(LoopEnded):
                    self._thread.call(self._engine.close, grace)
            finally:
                self._thread.stop()
                _running.discard(self)

    @contextmanager
    def background(
        self, *, keep_fresh: bool = True, is_idle: Callable[[], bool] | None = None
    ) -> Generator[None, None, None]:
        """Keep the login up to date while a context is open: `with engine.background():`. `is_idle` is called in the
        thread of the engine.
        """

        async def begin() -> Background:
            begun = self._engine.background(keep_fresh=keep_fresh, is_idle=is_idle)
            begun.start()
            return begun

        background = self._call(begin)
        try:
            yield
        finally:
            with suppress(EngineClosed):
                self._call(background.stop)

    # Using the login

    def authorization(self, min_lifetime: float = 0.0) -> Authorization:
        """Return a token that can be used. Refresh it first if necessary. A fresh one is returned at once."""
        fresh = self.fresh_authorization(min_lifetime)
        return fresh if fresh is not None else self._call(self._engine.authorization, min_lifetime)

    def fresh_authorization(self, min_lifetime: float = 0.0) -> Authorization | None:
        """Return the authorization if its token is fresh, otherwise None. Waits for nothing."""
        if self._thread.was_forked:
            self._thread.ensure_may_wait()
        return self._engine.fresh_authorization(min_lifetime)

    def ensure_may_wait(self) -> None:
        """Return if a call that waits for the engine can end in this thread.

        Raises:
            WrongEventLoop: it cannot: this is the thread of the engine, or a fork of its process.
        """
        self._thread.ensure_may_wait()

    def recover(self, refused: Authorization) -> Authorization:
        """After a 401 for `refused`, return what to send the request again with."""
        return self._call(self._engine.recover, refused)

    def refresh(self, patience: float | None = None) -> Session:
        """Refresh a managed login now, whatever the clock says."""
        return self._call(self._engine.refresh, patience)

    def check(self, patience: float = 2.0) -> Session:
        """Find out whether an expired login can still be refreshed, and whose a personal access token is."""
        return self._call(self._engine.check, patience)

    def reload(self) -> bool:
        """Read the store and adopt other tokens of the same account. Returns whether there were any."""
        return self._call(self._engine.reload)

    def restore(self) -> Session:
        """Read the store again if nobody is signed in."""
        return self._call(self._engine.restore)

    def follow(self, *, adopt: bool = False, switch: bool = True) -> Session:
        """Apply sign-ins, sign-outs and selected accounts of other processes. `background` does it once a second."""
        return self._call(self._engine.follow, adopt=adopt, switch=switch)

    # Signing in and out

    @strip_tracebacks
    def use_api_key(self, key: StaticCredentials | str) -> None:
        """Sign in with an API key or a personal access token, and store it."""
        key = read_static_credentials(key)  # in the place of the text, which a traceback would show
        self._call(self._engine.use_api_key, key)

    @strip_tracebacks
    def complete_chatgpt_login(self, tokens: ChatgptTokens) -> None:
        """Sign in with the tokens of a login and store them. Revoke the tokens that they replace, as best effort."""
        self._call(self._engine.complete_chatgpt_login, tokens)

    @strip_tracebacks
    def use_external_tokens(self, tokens: ExternalTokens) -> None:
        """Use tokens that a parent owns. They are never stored, and what is stored stays."""
        self._call(self._engine.use_external_tokens, tokens)

    def cancel_login(self, login_id: str) -> bool:
        """Cancel a login attempt. Returns whether it was open."""
        return self._call(self._engine.cancel_login, login_id)

    def log_out(self) -> None:
        """Remove what is stored, end the session, and revoke the newest refresh token in the background."""
        self._call(self._engine.log_out)

    def set_policy(self, policy: Policy) -> None:
        """Change the restrictions. Credentials that they forbid are refused at once; what is stored stays."""
        self._change(lambda: self._engine.set_policy(policy))

    @strip_tracebacks
    def call(
        self, function: Callable[Concatenate[AuthEngine, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a coroutine function in the event loop of the engine, and return its result. It is how to use what needs
        an `AuthEngine`, such as `start_browser_login`.

        Args:
            function: gets the engine, then the other arguments. It is cancelled when the engine is closed.
        """
        return self._call(function, self._engine, *args, **kwargs)

    def _call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return self._thread.call(function, *args, **kwargs)
        except LoopEnded:
            raise EngineClosed if self._is_closed else EngineNotStarted from None

    def _change(self, change: Callable[[], None]) -> None:
        """Change a setting: in the event loop, or before the start in the caller's thread."""

        async def change_there() -> None:
            change()

        if self._thread.is_running:
            self._call(change_there)
        elif self._is_closed:
            raise EngineClosed
        else:
            change()


_running: set[SyncAuthEngine] = set()


@atexit.register
def _close_at_exit() -> None:
    for engine in tuple(_running):
        close = partial(engine._engine.close, _GRACE_AT_EXIT)
        engine._thread.call_at_exit(close, _GRACE_AT_EXIT + _SLACK)
