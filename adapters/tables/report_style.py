"""How names and prose are written in a report: as plain text for a terminal, or as Markdown for a pull request.

What is written comes from the source of any revision, so it may be anybody's. It cannot leave its line, control a
terminal, or become a link, an image, a mention or HTML in Markdown.
"""

import re
from collections.abc import Sequence

import msgspec

_SPECIAL = re.compile(r"[\\*_{}\[\]()#!|<>@&~$:]|(?<=www)\.")
_CODE = re.compile(r"`([^`]*)`")


class ReportStyle(msgspec.Struct, frozen=True):
    """The way to write a report.

    Args:
        is_markdown: whether special characters of Markdown are escaped.
    """

    is_markdown: bool

    def code(self, name: str) -> str:
        """A name of the source, in backticks."""
        text = one_line(name).replace("`", "'")
        return f"`{text.replace('|', '¦') if self.is_markdown else text}`"

    def codes(self, names: Sequence[str], last: str = "and") -> str:
        """Names in backticks, as a list in a sentence."""
        return listed([self.code(name) for name in names], last)

    def prose(self, text: str) -> str:
        """A sentence or clause of the source. Names in backticks stay names."""
        line = one_line(text)
        if not self.is_markdown:
            return line
        parts = _CODE.split(line)
        return "".join(self.code(part) if place % 2 else _escaped(part) for place, part in enumerate(parts))


def one_line(text: str) -> str:
    """The text in one line, without characters that a terminal would execute or that change the direction of text."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))


def listed(parts: Sequence[str], last: str = "and") -> str:
    """The parts as a list in a sentence: `a, b and c`."""
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _escaped(text: str) -> str:
    """Plain text for Markdown. Entities, because GitHub finds mentions and addresses in escaped text as well."""
    return _SPECIAL.sub(_entity, text).replace("`", "&#96;")


def _entity(found: re.Match[str]) -> str:
    letter = found.group()
    if letter in ":()" and not _would_link(found):
        return letter
    return f"&#{ord(letter)};"


def _would_link(found: re.Match[str]) -> bool:
    """Whether a colon or a bracket is part of an address or a link."""
    after = found.string[found.end() : found.end() + 2]
    before = found.string[: found.start()]
    is_scheme = found.group() == ":" and (after == "//" or before.lower().endswith(("mailto", "xmpp")))
    return is_scheme or before.endswith("]")
