"""The home folder: $CODEX_HOME, which must be there, or ~/.codex, which the first login makes.

A home that is named and missing is refused, as codex does: a new folder would be a second login in a place that nobody
meant.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from authstate.engine.model.errors import StrippableError

_HINTS = {
    '"': "leave out the quotation marks, they are part of the name here",
    "'": "leave out the quotation marks, they are part of the name here",
    "$": "write the path in full, no shell replaces the $ here",
    "%": "write the path in full, no shell replaces the % here",
    "~": "write the path in full, no shell replaces the ~ here",
}
"""What to do about a name, by a character that it has and that a shell would have taken away."""


class ConfigError(StrippableError):
    """The configuration cannot be used. Names the file or the variable, the key, and what to write there."""


def find_home(environ: Mapping[str, str]) -> Path:
    """The home folder that the environment names, absolute and without symbolic links.

    Raises:
        ConfigError: CODEX_HOME names no folder, or there is no home folder of the user to be found.
    """
    named = environ.get("CODEX_HOME", "").strip()
    if not named:
        return Path(os.path.abspath(os.path.join(_user_folder(environ), ".codex")))
    expanded = named
    if named == "~" or named.startswith(("~/", "~" + os.sep)):
        expanded = _user_folder(environ) + named[1:]
    try:
        home = os.path.realpath(expanded)
        is_folder = stat.S_ISDIR(os.stat(home).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        advice = next((hint for sign, hint in _HINTS.items() if sign in named), "make the folder, or name another one")
        raise ConfigError(f"CODEX_HOME is {_shown(named)}, and there is no such folder: {advice}") from None
    except (OSError, ValueError) as error:
        why = ((isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__).lower()
        raise ConfigError(f"CODEX_HOME cannot be {_shown(named)}: {why}: set it to a folder of your own") from None
    if not is_folder:
        raise ConfigError(f"CODEX_HOME is {_shown(named)}, and that is no folder: set it to a folder of your own")
    return Path(home)


def _shown(name: str) -> str:
    """The name in text that can be printed: a file name may have bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _user_folder(environ: Mapping[str, str]) -> str:
    folder = environ.get("USERPROFILE" if os.name == "nt" else "HOME") or _registered_folder()
    if not os.path.isabs(folder):
        raise ConfigError("there is no home folder: set CODEX_HOME to the folder that keeps the credentials")
    return folder


def _registered_folder() -> str:
    """The home folder that the system has on record for this user; empty where there is none."""
    if os.name == "nt":
        return os.path.expanduser("~")
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""
