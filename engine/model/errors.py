"""The errors that authstate raises. Each is an `AuthstateError`, and each of the engine is an `AuthError`:

    AuthError
      InvalidCredentials        what was given cannot be read as a key or a token
      NotSignedIn               there are no credentials to act with
        TokenRefused            the issuer refused the personal access token when it was asked whose it is
      RecoveryExhausted         the backend refused the token, and there is no other
      TransitionRefused         the state table has no such row, or the row's guard refused
        ExternalTokensActive    a login was asked for while a parent owns the tokens
      PolicyViolation           the configuration forbids it
        LoginMethodForbidden
        WorkspaceForbidden
      LoginAttemptEnded         the login attempt was cancelled, expired or superseded
      LoginFailed               the login attempt failed; carries the issuer's error code, if it gave one
      PermanentRefreshError     the refresh token is dead: sign in again. Never retried, never deletes what is stored
      TransientAuthError        nothing is lost: the same call may succeed later
        IssuerUnavailable       the issuer cannot be reached, is overloaded, or sent an unusable answer
          RefreshInDoubt        the answer to a refresh was lost: nothing is sent while the access token is usable
        ParentUnavailable       the parent gave no new tokens (error, timeout, malformed, another workspace)
        StoreUnavailable        what is stored cannot be read, locked or written just now
          StoreBusy             another process holds the lock for too long
          StoreUnreadable       what is stored is corrupt or foreign; a refresh never overwrites it
        RefreshInterrupted      a logout, a login or the end of the program came first
      EngineClosed              the engine was closed
      EngineNotStarted          the engine was not started, or its start has not ended
      WrongEventLoop            the engine runs in another event loop, thread or process
      PoolClosed                the pool of engines was closed

A message says what happened, to which account or file, and what to do. No message holds a token.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Self, TypeVar, cast

_F = TypeVar("_F", bound=Callable[..., Any])
_C = TypeVar("_C")


class AuthstateError(Exception):
    """The base class of every error of authstate. `str(error)` is written for the person who reads it.

    A wrong call, such as one with an argument of another type, raises `TypeError` or `ValueError` instead.
    """

    def without_traceback(self) -> Self:
        """The same error as a new object, without traceback, context, cause and notes.

        The frames of a traceback refer to what was in use when the error was raised, such as a token or a request. A
        traceback also grows each time the exception is raised, so each caller gets an object of its own.
        """
        copy = type(self).__new__(type(self))
        copy.args = self.args
        copy.__dict__.update({name: value for name, value in self.__dict__.items() if name != "__notes__"})
        return copy


class AuthError(AuthstateError):
    """The base class of what the engine raises: it says why a login cannot be used, changed or stored."""


class GivenArguments:
    """The arguments of one call, which may be plain text of a key or a token. No frame of a traceback shows them."""

    __slots__ = ("_given",)

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._given: list[Any] = [args, kwargs]

    def pass_to(self, function: Callable[..., Any]) -> Any:
        """Call the function with the arguments, once, and return what it returns."""
        return function(*self._given.pop(0), **self._given.pop())


def strip_tracebacks(function: _F) -> _F:
    """Decorate a function that handles secrets: an AuthstateError leaves it without the traceback inside it.

    The new traceback begins here. Other exceptions, such as a cancellation, pass unchanged. The frame of this decorator
    never holds the arguments while the function runs. Coroutine functions are decorated in the same way.
    """
    if iscoroutinefunction(function):

        @wraps(function)
        async def stripped_async(*args: Any, **kwargs: Any) -> Any:
            given = GivenArguments(args, kwargs)
            del args, kwargs
            try:
                return await given.pass_to(function)
            except AuthstateError as error:
                stripped = error.without_traceback()
            raise stripped

        return cast(_F, stripped_async)

    @wraps(function)
    def stripped_sync(*args: Any, **kwargs: Any) -> Any:
        given = GivenArguments(args, kwargs)
        del args, kwargs
        try:
            return given.pass_to(function)
        except AuthstateError as error:
            stripped = error.without_traceback()
        raise stripped

    return cast(_F, stripped_sync)


def strip_tracebacks_of_methods(kind: type[_C]) -> type[_C]:
    """Decorate every public coroutine function of a class with `strip_tracebacks`."""
    for name, member in tuple(vars(kind).items()):
        if not name.startswith("_") and iscoroutinefunction(member):
            setattr(kind, name, strip_tracebacks(member))
    return kind


class InvalidCredentials(AuthError):
    """What was given cannot be read as a key or a token. Nothing was changed."""


class NotSignedIn(AuthError):
    """There are no credentials to act with."""


class TokenRefused(NotSignedIn):
    """The issuer does not know the personal access token, or no longer. What is stored was not changed."""

    def __init__(self, said: str) -> None:
        super().__init__(
            f"{said}: the personal access token is mistyped, has expired or was revoked. Create another one, and sign "
            "in with `authstate login --with-access-token`"
        )


class RecoveryExhausted(AuthError):
    """The backend refused the token, and this mode has no way to another one."""


class TransitionRefused(AuthError):
    """The state table does not allow this trigger in this state. Nothing was changed.

    Args:
        trigger: the trigger that was refused.
        state: the state that refused it.
        why: the guard's reason, if the row exists and its guard refused.
    """

    def __init__(self, trigger: str, state: str, why: str = "") -> None:
        super().__init__(why or f"'{trigger}' is not possible while the state is '{state}'")
        self.trigger = trigger
        self.state = state


class ExternalTokensActive(TransitionRefused):
    """A login was asked for while a parent application owns the tokens."""

    def __init__(self, trigger: str, state: str) -> None:
        super().__init__(
            trigger,
            state,
            "the parent application owns the tokens: pass new ones in with account/login/start (chatgptAuthTokens), or "
            "log out first",
        )


class PolicyViolation(AuthError):
    """The configuration forbids these credentials. Nothing was stored."""


class LoginMethodForbidden(PolicyViolation):
    """`forced_login_method` forbids this way to sign in."""


class WorkspaceForbidden(PolicyViolation):
    """`forced_chatgpt_workspace_id` does not list the workspace of these tokens."""


class LoginAttemptEnded(AuthError):
    """The login attempt is over without a login: it was cancelled, expired or superseded."""


class LoginFailed(AuthError):
    """The login attempt failed.

    Args:
        message: what happened and what to do.
        code: the issuer's error code, if it gave one.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class RefreshDeadReason(StrEnum):
    """Why a refresh token is dead for good."""

    EXPIRED = "expired"
    EXHAUSTED = "exhausted"
    REVOKED = "revoked"
    ACCOUNT_CHANGED = "account_changed"
    MISSING = "missing"
    UNKNOWN = "unknown"


_REMEDY = "Sign in again: `authstate login`. What is stored was not changed."
_REMEDIES = {
    RefreshDeadReason.ACCOUNT_CHANGED: (
        "Sign in again to use this account: `authstate login`. To use what is stored now, try again in a moment, or "
        "restart this program if it does not follow other sign-ins."
    ),
}
_CAUSES = {
    RefreshDeadReason.EXPIRED: "Your sign-in has expired: the refresh token is too old.",
    RefreshDeadReason.EXHAUSTED: ("Your sign-in was used up: its refresh token works only once and was spent already."),
    RefreshDeadReason.REVOKED: "Your sign-in was revoked: you signed out elsewhere, or an administrator ended it.",
    RefreshDeadReason.ACCOUNT_CHANGED: (
        "Another program signed in with another account, or signed out, where these credentials are stored."
    ),
    RefreshDeadReason.MISSING: (
        "The access token has expired, or the backend refused it, and this sign-in has no refresh token to get a new "
        "one with."
    ),
    RefreshDeadReason.UNKNOWN: "The issuer refused your sign-in and gave no known reason.",
}


class PermanentRefreshError(AuthError):
    """The refresh token is dead for good. It is never sent again, and what is stored stays.

    Args:
        reason: which of the known reasons it is.
        detail: what else is known of the cause, a sentence for the person.
    """

    def __init__(self, reason: RefreshDeadReason, detail: str = "") -> None:
        remedy = _REMEDIES.get(reason, _REMEDY)
        super().__init__(" ".join(part for part in (_CAUSES[reason], detail, remedy) if part))
        self.reason = reason
        self.detail = detail


class TransientAuthError(AuthError):
    """Nothing is lost and the state did not change: the same call may succeed later."""


class Delivery(StrEnum):
    """What became of a request to the issuer that brought no usable answer."""

    NOT_SENT = "not_sent"
    """It certainly did not leave: name resolution, the connection or a proxy failed. It may be sent again."""
    NOT_PROCESSED = "not_processed"
    """The issuer refused it unprocessed, as under load (429, 503). It may be sent again when the issuer says."""
    REFUSED = "refused"
    """The next answer would be the same: a redirect, another 4xx status, an untrusted certificate, a refusing
    proxy, a setting that cannot be used."""
    UNKNOWN = "unknown"
    """It may have been processed: a reset or a timeout after it was sent, another 5xx status, an incomplete answer."""


class IssuerUnavailable(TransientAuthError):
    """The issuer cannot be reached, is overloaded, or sent an unusable answer.

    Args:
        message: what happened.
        retry_after: seconds the issuer asked to wait, if it did.
        delivery: what became of the request, which decides whether it is sent again.
        code: the issuer's error code, if it gave one.
    """

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        *,
        delivery: Delivery = Delivery.NOT_SENT,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.delivery = delivery
        self.code = code


class NotSentInTime(IssuerUnavailable):
    """A refresh token was not sent, because the time for which this process may send it is over.

    This process paused for longer than expected, and another one may send the token now.
    """

    def __init__(self) -> None:
        super().__init__(
            "the refresh token was not sent: this process paused for too long, and another one may send it: try again",
            delivery=Delivery.NOT_SENT,
        )


class RefreshInDoubt(IssuerUnavailable):
    """A refresh token was sent and no answer came, so it may be spent. It is not sent again while the access token is
    usable, because an issuer may revoke a login whose refresh token it sees twice.

    Args:
        what: what happened, as a sentence without its full stop.
        is_new: whether this refresh sent it. False if an earlier refresh did, and nothing was sent now.
    """

    def __init__(self, what: str, *, is_new: bool) -> None:
        super().__init__(
            f"{what}, so the refresh token may be spent: the access token is used until it expires or is refused, and "
            "then the refresh is tried once more",
            delivery=Delivery.UNKNOWN,
        )
        self.is_new = is_new


class ParentUnavailable(TransientAuthError):
    """The parent application gave no new tokens. The tokens in use stay; the next 401 asks again."""


class StoreUnavailable(TransientAuthError):
    """What is stored cannot be read, locked or written just now. The message names the place and the fault."""


class StoreBusy(StoreUnavailable):
    """Another process holds the store's lock for too long. The message names the process, if that is known."""


class StoreUnreadable(StoreUnavailable):
    """What is stored is corrupt or foreign. A refresh never overwrites it; a login replaces it."""

    other_login: str | None = None
    """The kind of the login, if it is one that is not managed here, as codex spells it. A logout does not remove it."""


class RefreshInterrupted(TransientAuthError):
    """A logout, a login or the end of the program came before the refresh."""


class EngineClosed(AuthError):
    """The engine was closed: make a new one."""

    def __init__(self) -> None:
        super().__init__("this engine was closed: make a new one")


class EngineNotStarted(AuthError):
    """The engine was not started, or its start has not ended. Nothing was changed."""

    def __init__(self) -> None:
        super().__init__(
            "this engine was not started: use it inside of `async with` (`with` for a SyncAuthEngine), or call `start`"
        )


class WrongEventLoop(AuthError):
    """The engine runs in another event loop, thread or process than the caller. Nothing was changed."""


class PoolClosed(AuthError):
    """The pool of engines was closed: make a new one."""

    def __init__(self) -> None:
        super().__init__("this pool of engines was closed: make a new one")
