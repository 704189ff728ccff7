"""A line of a journal: what is in it, and how it is read again. No line holds a token, a key or an email.

Each line is one JSON object. A newer release may add members and kinds of lines; what this release does not know, it
keeps as it is. `data` depends on `what`:

opened          program, version, python, platform
state_changed   trigger, previous, state, generation, kind, login, token, same_access, expires_at, reason, message,
                detail
unauthorized    generation
claim           trigger, found, state, token, sends, recorded, could_wait, reason, detail, successor
sent, answered  token, attempt; delivery, error
refresh_started, refresh_retried, refresh_ended, refresh_failed, token_expiring, token_expired
login_completed, account_updated, warned, lost
ended           nothing: the engine was closed

`token` is the fingerprint of a refresh token, as in a refresh claim. `login` is the digest of an account.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from authstate.adapters.journal.messages import Redaction as Redaction
from authstate.engine.machines.refresh_claim import fingerprint_of
from authstate.engine.machines.refresh_trace import (
    AccessRefused,
    ClaimStep,
    EngineEnded,
    TokenAnswered,
    TokenSent,
    TraceStep,
)
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens, PersonalAccessToken
from authstate.engine.model.errors import IssuerUnavailable, PermanentRefreshError
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
from authstate.engine.model.session import Session
from authstate.engine.model.states import Trigger

VERSION: Final = 1
"""Of the format. A reader of an older release does not check lines of a newer format."""
_KINDS: Mapping[type, str] = {
    ApiKey: "api_key",
    PersonalAccessToken: "personal_access_token",
    ChatgptTokens: "chatgpt",
    ExternalTokens: "external_tokens",
}
Data = dict[str, str | int | float | bool]
"""Plain values only, also in later releases: a reader may use each as a key."""

_Members = dict[str, str | int | float | bool | None]
_Described = tuple[str, _Members]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line."""

    v: int
    """The version of the format."""
    at: float
    """Seconds since the epoch, by the clock of the process."""
    by: str
    """Which engine wrote it: 8 hexadecimal digits, chosen at random."""
    n: int
    """The number of the line among those of its engine, from 1. A gap says that lines are lost."""
    pid: int
    what: str
    data: Data = {}


def describe(happened: Event | TraceStep, redact: Callable[[object], str]) -> tuple[str, Data]:
    """Return `what` and `data` of the line for an event or a step."""
    describer = _DESCRIBERS.get(type(happened))
    if describer is None:
        return type(happened).__name__, {}
    what, members = describer(happened, redact)
    return what, {name: value for name, value in members.items() if value is not None and value != ""}


def _state_changed(event: StateChanged, redact: Callable[[object], str]) -> _Described:
    session = event.current
    failure = session.failure
    return "state_changed", {
        "trigger": str(event.trigger),
        "previous": str(event.previous.state),
        "state": str(session.state),
        "generation": session.generation,
        **_describe_credentials(session),
        "same_access": session.has_same_access_as(event.previous) or None,
        "reason": str(failure.reason) if failure is not None and failure.reason is not None else None,
        "message": redact(failure.message) if failure is not None else None,
        "detail": redact(failure.detail) if failure is not None else None,
    }


def _describe_credentials(session: Session) -> _Members:
    credentials, account = session.credentials, session.account
    found: _Members = {"kind": _KINDS.get(type(credentials), "none")}
    if account is not None:
        found["login"] = account.digest
    if isinstance(credentials, ChatgptTokens):
        found["token"] = fingerprint_of(credentials.refresh_token)
    if isinstance(credentials, ChatgptTokens | ExternalTokens):
        found["expires_at"] = credentials.expires_at
    return found


def _claim(step: ClaimStep, redact: Callable[[object], str]) -> _Described:
    claim = step.claim
    return "claim", {
        "trigger": str(step.trigger),
        "found": str(step.found),
        "state": str(claim.state),
        "token": claim.fingerprint,
        "sends": claim.sends,
        "recorded": step.is_recorded,
        "could_wait": step.could_wait or None,
        "reason": str(claim.reason) if claim.reason is not None else None,
        "detail": redact(claim.detail),
        "successor": claim.successor,
    }


def _answered(step: TokenAnswered, redact: Callable[[object], str]) -> _Described:
    error = step.error
    return "answered", {
        "token": step.fingerprint,
        "attempt": step.attempt,
        "delivery": str(error.delivery) if isinstance(error, IssuerUnavailable) else None,
        "reason": str(error.reason) if isinstance(error, PermanentRefreshError) else None,
        "error": redact(error) if error is not None else None,
    }


def _refresh_ended(event: RefreshEnded, redact: Callable[[object], str]) -> _Described:
    return "refresh_ended", {
        "outcome": str(event.outcome),
        "duration": round(event.duration, 3),
        "attempts": event.attempts,
        "generation": event.generation,
        "error": redact(event.error) if event.error is not None else None,
    }


def _refresh_failed(event: RefreshFailed, redact: Callable[[object], str]) -> _Described:
    error = event.error
    return "refresh_failed", {
        "permanent": event.permanent,
        "kind": type(error).__name__,
        "reason": str(error.reason) if isinstance(error, PermanentRefreshError) else None,
        "error": redact(error),
    }


def _login_completed(event: LoginCompleted, redact: Callable[[object], str]) -> _Described:
    return "login_completed", {
        "attempt": "browser or device code" if event.login_id is not None else None,
        "success": event.success,
        "error": redact(event.error) if event.error is not None else None,
    }


_DESCRIBERS: Mapping[type, Callable[[Any, Callable[[object], str]], _Described]] = {
    StateChanged: _state_changed,
    ClaimStep: _claim,
    TokenSent: lambda step, _: ("sent", {"token": step.fingerprint, "attempt": step.attempt}),
    TokenAnswered: _answered,
    AccessRefused: lambda step, _: ("unauthorized", {"generation": step.generation}),
    EngineEnded: lambda *_: ("ended", {}),
    RefreshStarted: lambda event, _: (
        "refresh_started",
        {"reason": str(event.reason), "generation": event.generation},
    ),
    RefreshRetried: lambda event, redact: (
        "refresh_retried",
        {"attempt": event.attempt, "wait": round(event.wait, 3), "error": redact(event.error)},
    ),
    RefreshEnded: _refresh_ended,
    RefreshFailed: _refresh_failed,
    LoginCompleted: _login_completed,
    AccountUpdated: lambda event, _: (
        "account_updated",
        {"auth_mode": str(event.auth_mode) if event.auth_mode is not None else None},
    ),
    TokenExpiring: lambda event, _: ("token_expiring", {"expires_at": event.expires_at}),
    TokenExpired: lambda event, _: ("token_expired", {"expires_at": event.expires_at}),
    EventsMissed: lambda event, _: ("lost", {"lines": event.count}),
    Warned: lambda event, redact: ("warned", {"code": event.code, "message": redact(event.message)}),
}


def is_notable(happened: Event | TraceStep) -> bool:
    """Whether something happened that is worth a line in a file.

    What a program reads when it starts is not, nor its end: a script that asks for a token every minute would push
    everything else out of the ring. Nor is the death of a login for which no token was sent: it was known already. A
    token that is sent is claimed first, which is notable. Such lines wait for the next one that is.
    """
    if isinstance(happened, StateChanged):
        is_death = happened.trigger is Trigger.REFRESH_REJECTED
        return not is_death and (happened.current.generation > 1 or happened.current.failure is not None)
    if isinstance(happened, RefreshEnded | RefreshFailed):
        return not isinstance(happened.error, PermanentRefreshError)
    return not isinstance(happened, EngineEnded | TokenExpiring | TokenExpired | RefreshStarted)


def encode(line: Line) -> bytes:
    """Return a line as it is in the file, with its line break. What UTF-8 cannot hold becomes a question mark."""
    try:
        return _encoder.encode(line) + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair: a file name that is not UTF-8, or an issuer's message
        data = {name: _encodable(value) if isinstance(value, str) else value for name, value in line.data.items()}
        return _encoder.encode(msgspec.structs.replace(line, data=data)) + b"\n"


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def decode(data: bytes) -> Line | None:
    """Read a line. None if it cannot be understood: the process was killed, or the disk was full, while it was written.

    Args:
        data: without its line break.
    """
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError):  # of msgspec and of UTF-8
        return None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


def journal_path(home: str | os.PathLike[str]) -> str:
    """Return the path of the journal of a home. Its predecessor has `.1` behind it."""
    return os.path.join(Path(home), "auth.json.authstate.journal")
