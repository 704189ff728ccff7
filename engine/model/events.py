"""The events of the engine: immutable, and delivered to every listener in order, in the task that caused them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

import msgspec

from authstate.engine.model.account import PlanType
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


class Warned(msgspec.Struct, frozen=True):
    """Something to log. `code` is stable. `message` is for a person and holds no secret."""

    code: str
    message: str


Event: TypeAlias = StateChanged | LoginCompleted | AccountUpdated | RefreshFailed | Warned

Listener = Callable[[Event], None]


E = TypeVar("E")


class Subscriptions(Generic[E]):
    """Calls every listener with every event, in order, in the task that caused it. A listener must not block."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[E], None]] = []

    def subscribe(self, listener: Callable[[E], None]) -> Callable[[], None]:
        """Call `listener` with every event from now on. Returns a function that ends this; it may be called again."""
        self._listeners.append(listener)

        def end() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return end

    def emit(self, event: E) -> None:
        """Call every listener. The event loop's exception handler gets what one raises; the others are still called."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:
                context = {"message": "a listener of the auth engine failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


class Listeners(Subscriptions[Event]):
    """The listeners of an engine."""

    def warn(self, code: str, message: str) -> None:
        """Emit a `Warned` event."""
        self.emit(Warned(code, message))
