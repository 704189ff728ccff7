"""Reads whether a home keeps a journal, and how large it may be: `authstate.journal`, or `AUTHSTATE_JOURNAL`."""

from collections.abc import Mapping

from authstate.adapters.config.home import ConfigError
from authstate.adapters.config.layers import OVERRIDE, EffectiveSetting, Settings

JOURNAL_VARIABLE = "AUTHSTATE_JOURNAL"
DEFAULT_SIZE = 1024 * 1024
"""Bytes that the files of a journal may have together, about."""
SMALLEST, LARGEST = 64, 65536
"""Kilobytes that somebody may set."""
_KEYS = ("authstate", "journal")
JOURNAL_KEY = ".".join(_KEYS)
_MUST = f'must be "on", "off", or its size in kilobytes, from {SMALLEST} to {LARGEST}'


def journal_size(settings: Settings | None, environ: Mapping[str, str]) -> tuple[int, EffectiveSetting | None]:
    """Return the size of the journal in bytes, 0 for none, and what decides it.

    `-c` wins over the environment, and that over the files, as with the account.

    Args:
        settings: the merged files and overrides. None if there are none.
        environ: the environment variables.

    Raises:
        ConfigError: the value is none of those that are allowed. The message names where it was set.
    """
    value = settings.get(*_KEYS) if settings is not None else None
    origin = settings.origin(*_KEYS) if settings is not None else None
    variable = environ.get(JOURNAL_VARIABLE, "").strip()
    if variable and origin != OVERRIDE:
        value, origin = variable, JOURNAL_VARIABLE
    if value is None:
        return DEFAULT_SIZE, None
    size = _size_of(value)
    if size is None:
        if origin == JOURNAL_VARIABLE or settings is None:
            raise ConfigError(f"the environment variable {JOURNAL_VARIABLE} {_MUST}")
        raise settings.fault(_KEYS, _MUST)
    return size, EffectiveSetting(JOURNAL_KEY, value, origin)


def _size_of(value: object) -> int | None:
    """Return the bytes that a value means. None if it is not allowed."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("on", "off"):
            return DEFAULT_SIZE if word == "on" else 0
        value = int(word) if word.isascii() and word.isdigit() and len(word) < 6 else None
    if isinstance(value, bool) or not isinstance(value, int) or not SMALLEST <= value <= LARGEST:
        return None
    return value * 1024
