"""How large a text is in a picture, without a font: all of it is monospaced."""

import unicodedata

_WIDEST_CELL = 0.62
"""The width of a character, as a part of the font size. Of the fonts that systems have, none is wider."""
_SHOWN_INSTEAD = "\ufffd"


def shown(text: str) -> str:
    """Return a text as it is drawn: what has no picture, or would change the direction of others, is U+FFFD."""
    return "".join(_SHOWN_INSTEAD if unicodedata.category(one)[0] == "C" else one for one in str(text))


def width_of(text: str, size: float) -> int:
    """Return the width of a text in pixels, rounded up, for a font size in pixels."""
    cells = sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in shown(text))
    return int(cells * size * _WIDEST_CELL) + 1


def has_sure_width(text: str) -> bool:
    """Whether no system draws the text wider than `width_of` says. If not, a picture must say how wide it is."""
    return text.isascii()


def wrapped(text: str, longest: int) -> tuple[str, ...]:
    """Break a text at its spaces, into lines of at most `longest` characters if its words are not longer."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip(" ")
        if lines[-1] and len(longer) > longest:
            lines.append(word)
        else:
            lines[-1] = longer
    return tuple(lines)
