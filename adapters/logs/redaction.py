"""Removes what looks like a secret from text and from values. The only place that decides what looks like one."""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from authstate.engine.model.secret import Secret

HIDDEN: Final = "[redacted]"

_DEEPEST = 8
_SECRET_KEY = re.compile(r"(token|apikey|secret|password|authorization|cookie|verifier|bearer|credential)s?$")
_NAMES = r"(?:[\w-]{0,30}(?:token|api[_-]?key|secret|password|verifier)|authorization|code|state)"
_PATTERNS: Final = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9_.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(rf"(?i)([\"']{_NAMES}[\"']\s*:\s*)(\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?)"), rf"\1{HIDDEN}"),
    (re.compile(rf"(?i)\b({_NAMES}=)(?:\"[^\"]*\"?|'[^']*'?|[^\s&\"',;)}}]+)"), rf"\1{HIDDEN}"),
    (re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*"), HIDDEN),
    (re.compile(r"authstate_lease_[A-Za-z0-9_.-]{6,}"), HIDDEN),
    (re.compile(r"(?<![A-Za-z0-9])(?:sk|rt|ac|at|sess)[-_][A-Za-z0-9_-]{6,}"), HIDDEN),
    (re.compile(r"[A-Za-z0-9_+=-]{40,}"), HIDDEN),
)


def redact_text(text: str) -> str:
    """Replace what looks like a secret: JWTs, API keys, bearer tokens, long opaque strings, and the values of
    `token=...` and `"token": "..."`.
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact(value: object, _depth: int = 0) -> Any:
    """Return a value without secrets. Anything but text, numbers and containers becomes its redacted `repr`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, str):
        return redact_text(str(value))
    if _depth < _DEEPEST:
        if isinstance(value, Mapping):
            members = cast("Mapping[object, object]", value)
            return {redact_text(str(key)): _redact_member(str(key), item, _depth) for key, item in members.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [redact(item, _depth + 1) for item in cast("Collection[object]", value)]
    if isinstance(value, bytes | bytearray):
        return redact_text(bytes(value).decode("utf-8", "replace"))
    return redact_text(str(value) if isinstance(value, BaseException) else repr(value))


def _redact_member(key: str, value: object, depth: int) -> Any:
    plain = key.lower().replace("_", "").replace("-", "")
    if _SECRET_KEY.search(plain) and value is not None and not isinstance(value, bool | int | float):
        return HIDDEN
    return redact(value, depth + 1)
