"""Says in the child's own messages why a turn failed, when it failed for want of tokens.

    what happened                                   what the child says
    its question for new tokens was refused         "auth refresh request failed: code=-32603"; 0.93.0: "... canceled:
                                                    channel closed"
    its login was changed or taken while it ran     from 0.169.0 on: "Fatal error: application network permission was
                                                    revoked"

The person needs our words: they say what happened to the login and what to do. So that one string is replaced,
wherever an error of a turn is told.

The front-end needs a sign, too. A codex that owns its login says `unauthorized` in `codexErrorInfo` (`codex_error_info`
in the older events) when only a new sign-in helps; a child whose parent refuses tokens says `other`. Where a sign-in is
needed, `other` is replaced by `unauthorized`, in the same error.
"""

import re
from enum import StrEnum

import msgspec
from msgspec import Raw


class Cause(StrEnum):
    """Why a turn failed, as the child's words tell."""

    QUESTION_REFUSED = "question_refused"
    LOGIN_CHANGED = "login_changed"


class Explanation(msgspec.Struct, frozen=True):
    """What the person is told instead."""

    words: str
    needs_login: bool = False
    """Whether only a new sign-in helps."""


_TELLING = {
    b'"auth refresh request ': Cause.QUESTION_REFUSED,
    b"application network permission was revoked": Cause.LOGIN_CHANGED,
}
_MESSAGES = {
    Cause.QUESTION_REFUSED: re.compile(rb'("message"\s*:\s*)"auth refresh request [^"\\]*"'),
    Cause.LOGIN_CHANGED: re.compile(
        rb'("message"\s*:\s*)"(?:Fatal error: )?application network permission was revoked"'
    ),
}
_METHODS = frozenset({"error", "turn/completed", "codex/event/error", "codex/event/stream_error"})
_INFO = re.compile(rb'("(?:codexErrorInfo|codex_error_info)"\s*:\s*)"other"')


class _Place(msgspec.Struct, rename="camel"):
    thread_id: str | None = None


def cause_of(method: str | None, line: bytes) -> Cause | None:
    """Why a turn failed; None for a line that tells no such failure."""
    if method not in _METHODS:
        return None
    return next((cause for words, cause in _TELLING.items() if words in line), None)


def thread_of(params: Raw) -> str | None:
    """The thread that a notification is about, where it names one. Never raises."""
    try:
        return msgspec.json.decode(params, type=_Place).thread_id
    except (ValueError, RecursionError):
        return None


def explained(line: bytes, cause: Cause, explanation: Explanation) -> bytes:
    """The line with our words as the message of its error, and the sign that a sign-in is needed, if it is.

    Everything else in it stays as it is, and so does a line that tells no such error.
    """
    message = msgspec.json.encode(explanation.words)
    told, count = _MESSAGES[cause].subn(lambda found: found[1] + message, line)
    if not count or not explanation.needs_login:
        return told
    return _INFO.sub(lambda found: found[1] + b'"unauthorized"', told)
