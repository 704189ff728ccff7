"""Explains in the child's own messages why a turn failed, when it failed for want of tokens.

    what happened                                   what the child says
    its refresh request was refused                 "auth refresh request failed: code=-32603"; 0.93.0: "... canceled:
                                                    channel closed"
    its login was changed or removed meanwhile      from 0.169.0 on: "Fatal error: application network permission was
                                                    revoked"

The person needs to know what happened to the login and what to do. So this module replaces that one string wherever
the child reports an error of a turn.

The front-end needs a sign, too. A codex that owns its login says `unauthorized` in `codexErrorInfo` (`codex_error_info`
in the older events) when only a new sign-in helps; a child whose parent refuses tokens says `other`. When a sign-in is
needed, this module replaces `other` by `unauthorized` in the same error.
"""

import re
from enum import StrEnum

import msgspec
from msgspec import Raw


class FailureCause(StrEnum):
    """Why a turn failed, as the child's message says."""

    REFRESH_REFUSED = "refresh_refused"
    LOGIN_CHANGED = "login_changed"


class Explanation(msgspec.Struct, frozen=True):
    """What the person is told instead."""

    message: str
    needs_login: bool = False
    """Whether only a new sign-in helps."""


_MARKS = {
    b'"auth refresh request ': FailureCause.REFRESH_REFUSED,
    b"application network permission was revoked": FailureCause.LOGIN_CHANGED,
}
_MESSAGES = {
    FailureCause.REFRESH_REFUSED: re.compile(rb'("message"\s*:\s*)"auth refresh request [^"\\]*"'),
    FailureCause.LOGIN_CHANGED: re.compile(
        rb'("message"\s*:\s*)"(?:Fatal error: )?application network permission was revoked"'
    ),
}
_METHODS = frozenset({"error", "turn/completed", "codex/event/error", "codex/event/stream_error"})
_INFO = re.compile(rb'("(?:codexErrorInfo|codex_error_info)"\s*:\s*)"other"')


class _Params(msgspec.Struct, rename="camel"):
    thread_id: str | None = None


def failure_cause(method: str | None, line: bytes) -> FailureCause | None:
    """Why a turn failed; None for a line that reports no such failure."""
    if method not in _METHODS:
        return None
    return next((cause for mark, cause in _MARKS.items() if mark in line), None)


def thread_of(params: Raw) -> str | None:
    """The thread that a notification is about; None when it names none. Never raises."""
    try:
        return msgspec.json.decode(params, type=_Params).thread_id
    except (ValueError, RecursionError):
        return None


def replace_message(line: bytes, cause: FailureCause, explanation: Explanation) -> bytes:
    """Return the line with the explanation as the message of its error, and with the sign that a sign-in is needed.

    Everything else in it stays as it is, and so does a line that reports no such error.
    """
    message = msgspec.json.encode(explanation.message)
    replaced, count = _MESSAGES[cause].subn(lambda found: found[1] + message, line)
    if not count or not explanation.needs_login:
        return replaced
    return _INFO.sub(lambda found: found[1] + b'"unauthorized"', replaced)
