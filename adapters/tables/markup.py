"""Pieces of HTML for the page of the tables. All text passes through here, and is escaped."""

import re
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from authstate.adapters.tables.layout_text import shown

_CODE = re.compile(r"`([^`]*)`")


def text(plain: str) -> str:
    """Return a text for an element or a quoted attribute."""
    return escape(shown(plain))


def code(name: str) -> str:
    """Return a name as `<code>`."""
    return f"<code>{text(name)}</code>"


def codes(names: Iterable[str], between: str = ", ") -> str:
    """Return names as a list in a sentence."""
    return between.join(map(code, names))


def prose(sentence: str) -> str:
    """Return a sentence, in which names stand between backticks."""
    return _CODE.sub(r"<code>\1</code>", text(sentence))


def clause(words: str) -> str:
    """Return a clause as a sentence: the first letter large, a full stop at the end."""
    return prose(f"{words[:1].upper()}{words[1:]}{'' if words.endswith(('.', '!', '?')) else '.'}")


def place(*names: str) -> str:
    """Return the id and the fragment of a table, or of a state in it. It has no `~`, so that parts can add theirs."""
    return "/".join(quote(shown(name), safe="").replace("~", "%7E") for name in names)


def attributes(**values: str | int | None) -> str:
    """Return attributes, each after a space, with `-` for `_`. None: without it."""
    shown_values = ((name.replace("_", "-"), value) for name, value in values.items() if value is not None)
    return "".join(f' {name}="{text(str(value))}"' for name, value in shown_values)
