"""Reads `$CODEX_HOME/.env`, where people keep settings for codex. python-dotenv is imported only if the file exists.

As in codex, names that begin with `CODEX_` and unreadable lines are ignored. The environment of the process is not
changed.
"""

from collections.abc import Mapping
from typing import Final

_LARGEST: Final = 1024 * 1024  # bytes
_NOT_FROM_HERE: Final = "CODEX_"


def read_dotenv(path: str) -> Mapping[str, str]:
    """Return the variables of the file, with `${NAME}` expanded. Empty if the file is missing or unreadable."""
    from authstate.adapters.io.regular_files import read_regular_file

    try:
        data = read_regular_file(path, _LARGEST + 1)
    except OSError:
        return {}
    if len(data) > _LARGEST:
        return {}
    from io import StringIO

    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    text = data.decode("utf-8-sig", "replace")
    good = "".join(line.original.string for line in parse_stream(StringIO(text)) if not line.error)
    values = dotenv_values(stream=StringIO(good))
    return {
        name: value
        for name, value in values.items()
        if value is not None and not name.upper().startswith(_NOT_FROM_HERE)
    }
