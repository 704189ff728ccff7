"""Makes the text of messages fit for a journal. More is removed than from a log: a report of it is published."""

import os
import re
from typing import Final

from authstate.adapters.logs.redaction import HIDDEN, redact_text

MOST_TEXT: Final = 1000
"""Characters of a message."""
_MOST_READ = 8 * MOST_TEXT

_NAME = r"[\w-]{0,30}(?:token|api[_ -]?key|secret|password|verifier|cookie)s?"
_VALUE = r"(?:\"[^\"]*\"?|'[^']*'?|[^\s,;\"']+)"
_OPAQUE = r"[A-Za-z0-9_+=-]"
_HOST = r"(?:\[[^\]\s]{1,64}\]|[\w-]{1,63}(?:\.[\w-]{1,63})*)"
_PATTERNS: Final = (
    (re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]"), ""),  # characters without width, which may split a key
    (re.compile(r"(://)[^\s/]{1,4000}(?=@)"), rf"\1{HIDDEN}"),
    (re.compile(rf"(?i)\b(\w{{0,30}}[_-]{_NAME}\s*[:=]\s*|{_NAME}\s*=\s*){_VALUE}"), rf"\1{HIDDEN}"),
    (re.compile(rf"(?i)\b({_NAME}(?:\s*:|\s+is)\s+)(?:\"[^\"]*\"?|'[^']*'?|(?=\S*\d)\S{{6,}})"), rf"\1{HIDDEN}"),
    (
        re.compile(
            rf"(?:\"[^\"\n]{{1,64}}\"|(?<![^\s@<>\"'(])(?:(?!%40)[^\s@\uff20<>\"'(])++)(?:[@\uff20]|%40){_HOST}"
        ),
        "[email]",
    ),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "[id]"),
    (re.compile(r"\b(?:org|user|acct|proj)[-_](?=\w*\d)\w{4,}"), "[id]"),
)
_OPAQUE_TEXT: Final = (
    (re.compile(rf"(?=(?:{_OPAQUE}*?\d|{_OPAQUE}*?[a-z][A-Z])){_OPAQUE}{{25,}}"), HIDDEN),
    (re.compile(r"(?=[\w+/=-]*?\d)(?=[\w+/=-]*?[a-z])(?=[\w+/=-]*?[A-Z])[\w+/=-]{40,}"), HIDDEN),
    (re.compile(r"(belong to .{1,300}? allows only )[^(]+\("), r"\1[id] ("),
    (re.compile(r"\b(workspaces?) (?=[\w-]*[\d-])[\w-]+(?:, [\w-]*[\d-][\w-]*)*"), r"\1 [id]"),
)


class Redaction:
    """Makes the text of messages fit for a journal: no secret, no email, no workspace, no name of a folder of the user.

    Args:
        home: the folder that becomes HOME.
    """

    def __init__(self, home: str) -> None:
        names = {os.path.expanduser("~"): "~", home: "HOME", os.path.realpath(home): "HOME"}
        places = [(place.rstrip("/\\"), name) for place, name in names.items()]
        self._places = [
            (re.compile(re.escape(place) + r"(?![\w-]|\.\w)"), name)
            for place, name in sorted(places, key=_length, reverse=True)
            if len(place) > 1
        ]

    def __call__(self, text: object) -> str:
        """Return the text without what a journal must not hold. It is cut only then: half a key looks like no key."""
        shown = str(text)
        if len(shown) > _MOST_READ:
            shown = shown[:_MOST_READ].rsplit(None, 1)[0]
        if not shown:
            return shown
        for place, name in self._places:
            shown = place.sub(name, shown)
        for pattern, replacement in _PATTERNS:
            shown = pattern.sub(replacement, shown)
        shown = redact_text(shown)
        for pattern, replacement in _OPAQUE_TEXT:
            shown = pattern.sub(replacement, shown)
        return shown[:MOST_TEXT]


def _length(place: tuple[str, str]) -> int:
    return len(place[0])
