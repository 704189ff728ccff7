"""The events of the engine: immutable, without secrets, and delivered to every listener in order."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from authstate.engine.model.account import PlanType
from authstate.engine.model.arguments import wrong_type
from authstate.engine.model.credentials import PersonalAccessToken
from authstate.engine.model.errors import AuthError
from authstate.engine.model.session import Session
from authstate.engine.model.states import AuthState, Trigger


class AuthMode(StrEnum):
    """How the account is signed in, as the account API spells it."""

    API_KEY = "apikey"
    CHATGPT = "chatgpt"
    EXTERNAL_TOKENS = "chatgptAuthTokens"
    PERSONAL_ACCESS_TOKEN = "personalAccessToken"


_MODE_OF_STATE = {
    AuthState.API_KEY: AuthMode.API_KEY,
    AuthState.CHATGPT: AuthMode.CHATGPT,
    AuthState.REFRESH_DEAD: AuthMode.CHATGPT,
    AuthState.EXTERNAL_TOKENS: AuthMode.EXTERNAL_TOKENS,
}


def mode_of(session: Session) -> AuthMode | None:
    """How the account of a session is signed in. None if nobody is. A dead refresh token is still a ChatGPT login."""
    if isinstance(session.credentials, PersonalAccessToken):
        return AuthMode.PERSONAL_ACCESS_TOKEN
    return _MODE_OF_STATE.get(session.state)


class StateChanged(msgspec.Struct, frozen=True):
    """A transition happened: exactly one for each new generation."""

    trigger: Trigger
    previous: Session
    current: Session


class LoginCompleted(msgspec.Struct, frozen=True):
    """A login is over. `login_id` is None for a login without an attempt (API key, external tokens)."""

    login_id: str | None
    success: bool
    error: str | None = None


class AccountUpdated(msgspec.Struct, frozen=True):
    """A login or a logout succeeded, here or in another process. This is who is signed in now."""

    auth_mode: AuthMode | None
    plan_type: PlanType | None

    @classmethod
    def of(cls, session: Session) -> "AccountUpdated":
        """The event for a session."""
        account = session.account
        return cls(mode_of(session), account.plan_type if account else None)


class RefreshFailed(msgspec.Struct, frozen=True):
    """A refresh failed. `permanent` tells whether the state changed to refresh_dead."""

    error: AuthError
    permanent: bool


class RefreshReason(StrEnum):
    """Why a refresh began."""

    BACKGROUND = "background"
    """The token expires within `RefreshSettings.window` (5 minutes). Nobody waits for the refresh."""
    NEEDED = "needed"
    """A caller needs a token, and the current one has expired or is about to (`RefreshSettings.blocking`, 30 s)."""
    MIN_LIFETIME = "min_lifetime"
    """A caller asked for a token that lasts longer: `AuthEngine.authorization(min_lifetime)`."""
    UNAUTHORIZED = "unauthorized"
    """The backend answered 401: `AuthEngine.recover`. Only this begins a question to a parent application."""
    REQUESTED = "requested"
    """`AuthEngine.refresh` was called."""
    UNSTORED = "unstored"
    """The engine closes, and tries once more to store tokens that it could not store. No token is sent."""


class RefreshOutcome(StrEnum):
    """How a refresh ended."""

    REFRESHED = "refreshed"
    """The issuer, or the parent application, gave new tokens."""
    ADOPTED = "adopted"
    """The store had other tokens already: another process refreshed. The issuer was not asked."""
    NOT_NEEDED = "not_needed"
    """The session had other credentials by then: a login, a logout or tokens of another process came first."""
    FAILED = "failed"
    """There are no new tokens, and a later refresh may bring some."""
    REJECTED = "rejected"
    """The refresh token is dead: the state is refresh_dead now."""
    CANCELLED = "cancelled"
    """A login, a logout or the end of the engine came first. No refresh token was spent."""


class RefreshStarted(msgspec.Struct, frozen=True):
    """A refresh began: the issuer, or the parent application, is about to be asked for new tokens.

    Exactly one `RefreshEnded` follows, before the next refresh begins. Only a refresh that takes longer than
    `AuthEngine.close` waits for it may end unheard.
    """

    reason: RefreshReason
    generation: int
    """Of the session whose tokens are to be replaced."""


class RefreshRetried(msgspec.Struct, frozen=True):
    """An attempt of the running refresh failed and will be repeated: it spent no token, or its answer was lost."""

    attempt: int
    """The number of the next attempt, from 2."""
    wait: float
    """Seconds until then."""
    error: AuthError
    """Why the last attempt failed."""


class RefreshEnded(msgspec.Struct, frozen=True):
    """A refresh ended. It comes after the `StateChanged` or `RefreshFailed` of that refresh."""

    outcome: RefreshOutcome
    duration: float
    """Seconds since `RefreshStarted`, by the monotonic clock. Waiting for other processes is part of it."""
    attempts: int
    """How often the refresh token was sent, or the parent application asked. 0: what the store held was enough."""
    generation: int
    """Of the session after the refresh."""
    error: AuthError | None = None
    """Why there are no new tokens. None, with the outcome FAILED, if a custom store or authority raised something other
    than an `AuthError`."""


class TokenExpiring(msgspec.Struct, frozen=True):
    """The access token in use expires within `RefreshSettings.window` (5 minutes). At most once for each token.

    When it comes depends on what drives the engine:

    - While somebody listens with `AuthEngine.events` or with a coroutine function, it comes at that moment although
      nobody calls the engine. It is up to a minute late if the wall clock jumped, as when a computer slept.
    - For other listeners it comes with the next `follow` or `check`, or when a refresh begins. `follow` is meant to be
      called about once a second.

    It does not come for a token without `exp`, nor for one that had expired before the engine looked.
    """

    expires_at: float
    """Seconds since the epoch."""
    generation: int
    """Of the session with that token."""


class TokenExpired(msgspec.Struct, frozen=True):
    """The access token in use has expired by this machine's clock. At most once for each token.

    It comes on the same occasions as `TokenExpiring`, and not for a token that was replaced in time.
    """

    expires_at: float
    """Seconds since the epoch."""
    generation: int
    """Of the session with that token."""


class EventsMissed(msgspec.Struct, frozen=True):
    """This listener was too slow, so the oldest events that waited for it were dropped. Others missed nothing.

    Only the streams of `AuthEngine.events`, and listeners that are coroutine functions, get it. The events that follow
    continue from `session`.
    """

    count: int
    """How many events were dropped here."""
    session: Session
    """The session after the dropped events."""


class Warned(msgspec.Struct, frozen=True):
    """Something to log. `code` is stable. `message` is for a person and holds no secret."""

    code: str
    message: str


Event: TypeAlias = (
    StateChanged
    | LoginCompleted
    | AccountUpdated
    | RefreshStarted
    | RefreshRetried
    | RefreshEnded
    | RefreshFailed
    | TokenExpiring
    | TokenExpired
    | EventsMissed
    | Warned
)

Listener = Callable[[Event], None]
"""Is called with every event, in the task that caused it. It must not block."""
AsyncListener = Callable[[Event], Coroutine[Any, Any, None]]
"""A coroutine function that is called with one event after the other, in a task of its own. It may take its time, and
learns what it missed (`EventsMissed`).
"""

E = TypeVar("E")


class Subscriptions(Generic[E]):
    """Calls every listener with every event, in order, in the task that caused it. A listener must not block, and is no
    coroutine function.
    """

    def __init__(self) -> None:
        self._listeners: list[Callable[[E], object]] = []

    def subscribe(self, listener: Callable[[E], None]) -> Callable[[], None]:
        """Call `listener` with every event from now on. Returns a function that ends this; it may be called again.

        Raises:
            TypeError: the listener cannot be called, or is a coroutine function, which would never run.
        """
        ensure_plain(listener)
        self._listeners.append(listener)

        def end() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return end

    def emit(self, event: E) -> None:
        """Call every listener. The event loop's exception handler gets what one raises; the others are still called."""
        for listener in tuple(self._listeners):
            try:
                refuse_coroutine(listener(event))
            except Exception as error:
                report_fault(error)


class Listeners(Subscriptions[Event]):
    """The listeners of an engine."""

    def warn(self, code: str, message: str) -> None:
        """Emit a `Warned` event."""
        self.emit(Warned(code, message))


def is_coroutine_function(function: Callable[..., object]) -> bool:
    """Whether calling this gives a coroutine, as far as can be known before it is called."""
    return _is_flagged(function) or _is_flagged(getattr(function, "__call__", None))  # noqa: B004


def _is_flagged(function: object) -> bool:
    """Return what `inspect` says. It takes the mock of a plain function for any kind, because its flags are a mock."""
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return isinstance(flags, int) and inspect.iscoroutinefunction(function)


def ensure_plain(listener: Callable[..., object]) -> None:
    """Refuse a listener that cannot be called, and one that is a coroutine function, which nobody would run here.

    Raises:
        TypeError: it is one of these.
    """
    if not callable(listener):
        raise wrong_type(listener, "listener", "a function that takes an event")
    if is_coroutine_function(listener):
        raise TypeError(
            "this listener is a coroutine function, which nobody would run here: give a plain function, which may put "
            "the event into a queue, or give it to `AuthEngine.subscribe`"
        )


def refuse_coroutine(result: object) -> None:
    """Refuse what a listener returned, if it is a coroutine: nobody would run it.

    Raises:
        TypeError: it is one; it was closed.
    """
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("a listener returned a coroutine, which nobody runs: subscribe the coroutine function itself")


def report_fault(error: Exception) -> None:
    """Give what a listener raised to the event loop's exception handler."""
    context = {"message": "a listener of the auth engine failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
