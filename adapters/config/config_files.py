"""Reads the files of the configuration: config.toml and those of the administrator. layers.py merges them.

tomli reads TOML 1.1, as codex does; the parser of the standard library (Python 3.11 to 3.14) rejects an inline table
over several lines. It is imported when there is a file to parse.
"""

import os
from typing import Any

from authstate.adapters.config.home import ConfigError
from authstate.adapters.io.regular_files import read_regular_file

SYSTEM_FOLDER = None if os.name == "nt" else "/etc/codex"
"""The folder of the administrator's files. On Windows, what codex reads was not measured, and nothing is read."""
SYSTEM_FILES = ("config.toml", "managed_config.toml", "requirements.toml")
SYSTEM_CONFIG, MANAGED, REQUIRED = SYSTEM_FILES
"""Of the administrator's files, those that win over `-c`. All releases obey the first. Releases from 0.150.0 on obey
the second, too, which wins over the first."""

_LARGEST = 4 * 1024 * 1024  # bytes
_REPAIR = "repair the file, or move it away"


def read_system_table(folder: str | None, name: str) -> tuple[str, dict[str, Any]] | None:
    """The path of one of the administrator's files and what it says; None where there is none. Raises ConfigError."""
    if folder is None:
        return None
    path = os.path.join(folder, name)
    table = read_table(path)
    return None if table is None else (path, table)


def read_table(path: str) -> dict[str, Any] | None:
    """Read a TOML file. None if it does not exist.

    Raises:
        ConfigError: the file cannot be read or parsed.
    """
    text = read_text(path)
    return None if text is None else _parse(text, path)


def read_text(path: str) -> str | None:
    """Read a text file. None if it does not exist. Raises ConfigError if it cannot be read."""
    try:
        data = read_regular_file(path, _LARGEST + 1)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise ConfigError(f"cannot read {path}: set CODEX_HOME to a folder: a part of this path is a file") from None
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        what = "give this user read access to it and to its folder" if isinstance(error, PermissionError) else _REPAIR
        raise ConfigError(f"cannot read {path}: {why}: {what}") from None
    if len(data) > _LARGEST:
        raise ConfigError(f"{path} is larger than {_LARGEST} bytes, which is too large for a configuration")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8 text: save the file as UTF-8") from None


def _parse(text: str, path: str) -> dict[str, Any]:
    import tomli

    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{path} is not valid TOML: {error.msg} ({place})") from None
    except RecursionError:
        raise ConfigError(f"{path} is not a configuration: it is nested too deeply") from None
