"""Says in the child's own messages why a turn failed, when it failed for want of tokens.

A child whose question for new tokens was refused ends its turn with words of its own ("auth refresh request failed:
code=-32603", in 0.93.0 "auth refresh request canceled: channel closed"), and drops ours. The person needs ours: they
say what happened to the login and what to do. So that one string is replaced, wherever an error of a turn is told.

The front-end needs a sign, too. A codex that owns its login says `unauthorized` in `codexErrorInfo` (`codex_error_info`
in the older events) when only a new sign-in helps; a child whose parent refuses tokens says `other`. Where a sign-in is
needed, `other` is replaced by `unauthorized`, in the same error.
"""

import re

import msgspec

TELLING = b'"auth refresh request '
"""What a line must hold to be one of these."""

_METHODS = frozenset({"error", "turn/completed", "codex/event/error", "codex/event/stream_error"})
_MESSAGE = re.compile(rb'("message"\s*:\s*)"auth refresh request [^"\\]*"')
_INFO = re.compile(rb'("(?:codexErrorInfo|codex_error_info)"\s*:\s*)"other"')


def is_failed_turn(method: str | None) -> bool:
    """Whether a notification of this method tells the error of a turn."""
    return method in _METHODS


def explained(line: bytes, why: str, *, needs_login: bool = False) -> bytes:
    """The line with `why` as the message of its error, and the sign that a sign-in is needed, if it is.

    Everything else in it stays as it is, and so does a line that tells no such error.
    """
    message = msgspec.json.encode(why)
    told, count = _MESSAGE.subn(lambda found: found[1] + message, line)
    if not count or not needs_login:
        return told
    return _INFO.sub(lambda found: found[1] + b'"unauthorized"', told)
