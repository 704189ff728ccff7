"""How long a token must last, as a command and a request to the JSON API give it."""

from typing import Final

_LONGEST: Final = 365 * 86_400.0  # seconds


def read_min_lifetime(text: str) -> float | None:
    """Return a number of seconds, at most a year. None if the text is no such number."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds <= _LONGEST else None
