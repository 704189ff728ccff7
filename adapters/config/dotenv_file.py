"""`$CODEX_HOME/.env`, where people keep settings for codex. python-dotenv, which parses it, is imported for it only.

As in codex, names that begin with `CODEX_` do not count, and what cannot be read is skipped. Nothing is put into the
environment of the process.
"""

from collections.abc import Mapping
from typing import Final

_LARGEST: Final = 1024 * 1024  # bytes
_NOT_FROM_HERE: Final = "CODEX_"


def read_dotenv(path: str) -> Mapping[str, str]:
    """What the file says; nothing where there is none, or none that can be read. `${NAME}` stands for another value."""
    from authstate.adapters.io.files import read_regular_file

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
