"""Finds members that a message has twice: two readers may read such a line differently.

Here and in codex the last of two members counts; in other readers the first one may.
"""

import json
from typing import Any

import msgspec

ESCAPE = b"\\u"
"""Any character can be written with it."""
_MEMBERS = ("id", "method", "params", "result", "error")
_WRITTEN = tuple(f'"{name}"'.encode() for name in _MEMBERS)


def repeated_member(line: bytes) -> str | None:
    """Return which of `id`, `method`, `params`, `result` and `error` a message has twice. None if it has none twice.

    Args:
        line: a JSON object. One that is nested too deeply to be read counts as having its `id` twice.
    """
    if ESCAPE not in line and all(line.count(name) < 2 for name in _WRITTEN):
        return None  # the names occur once, anywhere in the line
    if _is_sum_of_members(line):
        return None
    try:
        pairs: list[tuple[str, Any]] = json.loads(line, object_pairs_hook=list, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return "id"
    names = [name for name, _ in pairs]
    return next((name for name in _MEMBERS if names.count(name) > 1), None)


def _is_sum_of_members(line: bytes) -> bool:
    """Whether the members that a reader keeps make up the whole line: then it dropped none. False may be wrong.

    A member that was dropped, and a name that is written with escapes, make a line without white space longer than this
    sum. Most lines have neither, and are not parsed by the slow parser.
    """
    try:
        if len(line.rstrip()) == _size_of_members(line):
            return True
        compact = msgspec.json.format(line, indent=-1)  # drops white space, and no member
        return len(compact) == _size_of_members(compact)
    except (ValueError, RecursionError):
        return False


def _size_of_members(line: bytes) -> int:
    """The bytes of an object without white space that has each of these members once."""
    members = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    return 1 + sum(len(name.encode()) + len(bytes(value)) + len(b'"":,') for name, value in members.items())
