"""A line for each event of an engine. No line holds a secret or an email.

state_changed     previous, trigger, state, generation, workspace, reason, failure, fingerprint
refresh_failed    permanent, kind, error
refresh_started, refresh_retried, refresh_ended, token_expiring, token_expired
login_completed, account_updated, and the code of each warning
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from authstate.adapters.logs.loggers import write_line
from authstate.engine.model.arguments import ensure_methods
from authstate.engine.model.credentials import ApiKey, Credentials, PersonalAccessToken
from authstate.engine.model.events import (
    AccountUpdated,
    Event,
    EventsMissed,
    LoginCompleted,
    RefreshEnded,
    RefreshFailed,
    RefreshRetried,
    RefreshStarted,
    StateChanged,
    TokenExpired,
    TokenExpiring,
    Warned,
)
from authstate.engine.model.secret import Secret

_KEY = os.urandom(32)  # of this process


class Subscribable(Protocol):
    """The part of an `AuthEngine` that is used here."""

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call the listener with every event. Returns a function that unsubscribes it."""
        ...


_logged: "WeakKeyDictionary[Subscribable, Callable[[], None]]" = WeakKeyDictionary()


def log_events(engine: Subscribable) -> Callable[[], None]:
    """Write a line for each event of an engine to the logger `authstate.engine`. `open_engine` does it for its engines.

    While nobody has configured logging, nothing is written, and structlog is not imported. Calling it again for the
    same engine changes nothing.

    Args:
        engine: an `AuthEngine`. For a pool, give `log_event` to `EnginePool.subscribe`.

    Returns:
        A function that stops it. It may be called again.

    Raises:
        TypeError: the engine is something else.
    """
    ensure_methods(engine, ("subscribe",), "engine", "an AuthEngine")
    if (known := _logged.get(engine)) is not None:
        return known
    unsubscribe = engine.subscribe(partial(_write, {}))
    of = ref(engine)

    def end() -> None:
        unsubscribe()
        if (one := of()) is not None:
            _logged.pop(one, None)

    _logged[engine] = end
    return end


def log_event(account: object, event: Event) -> None:
    """Write a line for an event to the logger `authstate.engine`, with the account that it belongs to.

        pool.subscribe(log_event)

    Args:
        account: the key of the engine in its pool. It is redacted like all members.
        event: what happened.
    """
    _write({"account": account}, event)


def describe_event(event: Event) -> tuple[str, str, dict[str, Any]]:
    """Return the level, the name and the members of the line for an event. They hold no secret and no email."""
    if isinstance(event, StateChanged):
        return "info", "state_changed", _describe_transition(event)
    if isinstance(event, LoginCompleted):
        level = "info" if event.success else "warning"
        return level, "login_completed", {"login_id": event.login_id, "success": event.success, "error": event.error}
    if isinstance(event, AccountUpdated):
        return "info", "account_updated", {"auth_mode": _name(event.auth_mode), "plan_type": _name(event.plan_type)}
    if isinstance(event, RefreshFailed):
        members = {"permanent": event.permanent, "kind": type(event.error).__name__, "error": str(event.error)}
        return "error" if event.permanent else "warning", "refresh_failed", members
    if isinstance(event, Warned):
        return "warning", event.code, {"message": event.message}
    return _describe_progress(event)


def fingerprint_of_token(token: Secret) -> str:
    """Return 12 hexadecimal digits that tell the tokens of this process apart and reveal nothing about them.

    They are a BLAKE2 digest with a random key that only this process has. So a guess cannot be checked against a log,
    not even for a short key, and the same token has another fingerprint in another process.
    """
    return hashlib.blake2b(token.reveal().encode("utf-8", "surrogatepass"), digest_size=6, key=_KEY).hexdigest()


def _write(before: Mapping[str, object], event: Event) -> None:
    level, name, members = describe_event(event)
    write_line("engine", level, name, {**before, **members})


def _describe_transition(event: StateChanged) -> dict[str, Any]:
    session = event.current
    account, failure = session.account, session.failure
    members: dict[str, Any] = {
        "trigger": str(event.trigger),
        "previous": str(event.previous.state),
        "state": str(session.state),
        "generation": session.generation,
        "workspace": account.account_id if account else None,
    }
    if failure is not None:
        if failure.reason is not None:
            members["reason"] = str(failure.reason)
        members["failure"] = failure.message
    if session.credentials is not None:
        members["fingerprint"] = fingerprint_of_token(_token_of(session.credentials))
    return members


def _describe_progress(
    event: RefreshStarted | RefreshRetried | RefreshEnded | TokenExpiring | TokenExpired | EventsMissed,
) -> tuple[str, str, dict[str, Any]]:
    if isinstance(event, RefreshStarted):
        return "debug", "refresh_started", {"reason": str(event.reason), "generation": event.generation}
    if isinstance(event, RefreshRetried):
        wait = round(event.wait, 3)
        return "info", "refresh_retried", {"attempt": event.attempt, "wait": wait, "error": str(event.error)}
    if isinstance(event, RefreshEnded):
        members = {"outcome": str(event.outcome), "duration": round(event.duration, 3), "attempts": event.attempts}
        return "debug", "refresh_ended", {**members, "generation": event.generation}
    if isinstance(event, TokenExpiring):
        return "debug", "token_expiring", {"expires_at": event.expires_at, "generation": event.generation}
    if isinstance(event, TokenExpired):
        return "info", "token_expired", {"expires_at": event.expires_at, "generation": event.generation}
    return "warning", "events_missed", {"count": event.count, "generation": event.session.generation}


def _token_of(credentials: Credentials) -> Secret:
    if isinstance(credentials, ApiKey):
        return credentials.key
    return credentials.token if isinstance(credentials, PersonalAccessToken) else credentials.access_token


def _name(value: object) -> str | None:
    return None if value is None else str(value)
