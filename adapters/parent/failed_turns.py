"""Says in the child's own messages why a turn failed, when it failed for want of tokens.

A child whose question for new tokens was refused ends its turn with words of its own ("auth refresh request failed:
code=-32603", in 0.93.0 "auth refresh request canceled: channel closed"), and drops ours. The person needs ours: they
say what happened to the login and what to do. So that one string is replaced, wherever an error of a turn is told.
"""

import re

import msgspec

TELLING = b'"auth refresh request '
"""What a line must hold to be one of these."""

_METHODS = frozenset({"error", "turn/completed", "codex/event/error", "codex/event/stream_error"})
_MESSAGE = re.compile(rb'("message"\s*:\s*)"auth refresh request [^"\\]*"')


def is_failed_turn(method: str | None) -> bool:
    """Whether a notification of this method tells the error of a turn."""
    return method in _METHODS


def explained(line: bytes, why: str) -> bytes:
    """The line with `why` as the message of its error. Everything else in it stays as it is."""
    message = msgspec.json.encode(why)
    return _MESSAGE.sub(lambda found: found[1] + message, line)
