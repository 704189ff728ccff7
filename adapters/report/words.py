"""A line of a journal in words, for the timeline of a report."""

from collections.abc import Callable, Mapping
from typing import Any

from authstate.adapters.journal.lines import Line
from authstate.adapters.report.names import Names
from authstate.adapters.report.readable import number_of
from authstate.engine.machines.auth_state import AUTH_TABLE
from authstate.engine.model.states import Trigger

WHY: Mapping[str, str] = {
    "background": "the access token expires within 5 minutes",
    "needed": "a caller needed a token, and the access token had expired or was about to",
    "min_lifetime": "a caller asked for a token that lasts longer",
    "unauthorized": "the backend had refused the access token (401)",
    "requested": "somebody asked for a refresh",
    "unstored": "the program ended, and new tokens were not stored yet",
}
"""Why a refresh began."""
OUTCOMES: Mapping[str, str] = {
    "refreshed": "new tokens came",
    "adopted": "the store had newer tokens already, so the issuer was not asked",
    "not_needed": "the session had other credentials by then",
    "failed": "there are no new tokens, and the login is as before",
    "rejected": "the refresh token is dead",
    "cancelled": "a login, a logout or the end of the program came first",
}
_DELIVERIES: Mapping[str, str] = {
    "not_sent": "it did not leave this machine",
    "not_processed": "the issuer did not process it",
    "refused": "the issuer refused the request, and the token works as before",
    "unknown": "no answer came, so the token may be spent",
}
_KINDS: Mapping[str, str] = {
    "api_key": "an API key",
    "personal_access_token": "a personal access token",
    "external_tokens": "tokens of a parent application",
}

_MOST_ATTEMPTS = 10_000


def describe_line(line: Line, names: Names) -> str:
    """Return what a line says, as a sentence without a full stop. A line of an unknown kind is named."""
    writer = _WRITERS.get(line.what)
    return writer(line.data, names) if writer is not None else f"something that this release does not know: {line.what}"


def meaning_of(data: Mapping[str, Any]) -> str:
    """Return what the row of the table means that a change of state took. Empty if there is no such row."""
    for row in AUTH_TABLE.rows:
        if row.trigger == data.get("trigger") and data.get("previous") in row.sources:
            return row.meaning
    return ""


def _opened(data: Mapping[str, Any], _: Names) -> str:
    shown = (("authstate", "version"), ("Python", "python"), ("on", "platform"))
    about = ", ".join(f"{word} {data[key]}" for word, key in shown if key in data)
    return f"began: {data.get('program', 'a program')} ({about})"


def _state_changed(data: Mapping[str, Any], names: Names) -> str:
    owner = names.login(data["login"]) if "login" in data else _KINDS.get(str(data.get("kind")), "nobody")
    token = f", {names.token(data['token'])}" if "token" in data else ""
    said = f": {data['message']}" if "message" in data else f": {meaning_of(data)}"
    return f"{data.get('trigger')}: {data.get('previous')} → {data.get('state')} ({owner}{token}){said}"


def _claim(data: Mapping[str, Any], names: Names) -> str:
    token = names.token(data.get("token"))
    sentence = {
        "claim": f"claimed {token}, to send it",
        "withdraw": f"gave {token} free: it works as before",
        "lose": f"left {token} in doubt: it may be spent",
        "settle": f"stored the new tokens ({names.token(data.get('successor'))}) for {token}, which is spent",
        "refuse": f"noted that the issuer refused {token} for good ({data.get('reason', 'unknown')})",
    }.get(str(data.get("trigger")), f"{data.get('trigger')} {token}")
    if data.get("trigger") == "claim" and data.get("found") in ("claimed", "doubtful"):
        sentence += f"; it was {'claimed by a process that ended' if data['found'] == 'claimed' else 'in doubt'} before"
    return sentence if data.get("recorded", True) else f"{sentence}; the store did not take this"


def _answered(data: Mapping[str, Any], names: Names) -> str:
    token = names.token(data.get("token"))
    if "error" not in data:
        return f"the issuer sent new tokens for {token}"
    what = _DELIVERIES.get(str(data.get("delivery")), "the issuer refused it for good" if "reason" in data else "")
    return f"no new tokens for {token}{f': {what}' if what else ''}: {data['error']}"


def _refresh_ended(data: Mapping[str, Any], _: Names) -> str:
    outcome = data.get("outcome")
    return f"the refresh ended after {number_of(data.get('duration'))} s: {OUTCOMES.get(str(outcome), outcome)}"


def _attempt(data: Mapping[str, Any]) -> str:
    attempt = data.get("attempt")
    is_count = isinstance(attempt, int) and not isinstance(attempt, bool) and 1 <= attempt <= _MOST_ATTEMPTS
    return f"attempt {attempt}" if is_count else "attempt not readable"


def _account_updated(data: Mapping[str, Any], _: Names) -> str:
    return f"signed in: {data['auth_mode']}" if "auth_mode" in data else "nobody is signed in"


_WRITERS: Mapping[str, Callable[[Mapping[str, Any], Names], str]] = {
    "opened": _opened,
    "state_changed": _state_changed,
    "claim": _claim,
    "sent": lambda data, names: f"sent {names.token(data.get('token'))} to the issuer ({_attempt(data)})",
    "answered": _answered,
    "unauthorized": lambda data, _: "the backend refused the access token (401)",
    "ended": lambda data, _: "ended in order",
    "refresh_started": lambda data, _: f"a refresh began: {WHY.get(str(data.get('reason')), data.get('reason'))}",
    "refresh_retried": lambda data, _: f"will try again in {number_of(data.get('wait'))} s ({_attempt(data)})",
    "refresh_ended": _refresh_ended,
    "refresh_failed": lambda data, _: f"the refresh failed{' for good' if data.get('permanent') else ''}",
    "login_completed": lambda data, _: (
        "a sign-in succeeded" if data.get("success") else f"a sign-in failed: {data.get('error')}"
    ),
    "account_updated": _account_updated,
    "token_expiring": lambda data, _: "the access token expires within 5 minutes",
    "token_expired": lambda data, _: "the access token has expired",
    "lost": lambda data, _: f"{number_of(data.get('lines'))} events are missing here",
    "warned": lambda data, _: f"warned ({data.get('code')}): {data.get('message')}",
}
SIGNS_IN = (Trigger.USE_API_KEY, Trigger.COMPLETE_CHATGPT_LOGIN, Trigger.USE_EXTERNAL_TOKENS)
