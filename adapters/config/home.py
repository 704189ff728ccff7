"""Finds the home folder: $CODEX_HOME, which must exist, or ~/.codex, which the first login creates.

If $CODEX_HOME does not exist, it is an error, as in codex: a mistyped path would silently become a second login.
"""

import os
import stat
from collections.abc import Mapping

from authstate.engine.model.errors import AuthstateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

_HINTS = {
    '"': "leave out the quotation marks, they are part of the name here",
    "'": "leave out the quotation marks, they are part of the name here",
    "$": "write the path in full, no shell replaces the $ here",
    "%": "write the path in full, no shell replaces the % here",
    "~": "write the path in full, no shell replaces the ~ here",
}
"""Advice for a path that contains a character which a shell would have removed or expanded."""

ACCOUNT_HOMES = os.path.join("authstate", "homes")
"""The folder, in the home, of the homes that codex uses with another account of the vault."""
ACCOUNT_LIST = "accounts.json"
"""The list of accounts, beside that folder."""


class ConfigError(AuthstateError):
    """The configuration is invalid. The message names the file or variable, the key, and what to write there."""


def find_home(environ: Mapping[str, str]) -> "Path":
    """Return the home folder. See `find_home_path`. Raises ConfigError."""
    from pathlib import Path  # imported here: the first answer of `app-server` does without it

    return Path(find_home_path(environ))


def find_home_path(environ: Mapping[str, str], setting: str = "CODEX_HOME") -> str:
    """Return the home folder as an absolute path without symbolic links.

    If CODEX_HOME is the home of an account (see `account_of_home`), as for a command under `authstate run`, that is the
    home that has the vault.

    Args:
        environ: the environment variables.
        setting: what named the folder, for the message of an error.

    Raises:
        ConfigError: CODEX_HOME is not a folder, or the user has no home folder.
    """
    named = environ.get("CODEX_HOME", "").strip()
    if not named:
        return os.path.abspath(os.path.join(_user_folder(environ), ".codex"))
    try:
        home = os.path.realpath(_expanded(named, environ))
        is_folder = stat.S_ISDIR(os.stat(home).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        advice = next((hint for sign, hint in _HINTS.items() if sign in named), "make the folder, or name another one")
        raise ConfigError(f"{setting} is {_shown(named)}, and there is no such folder: {advice}") from None
    except (OSError, ValueError) as error:
        why = ((isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__).lower()
        raise ConfigError(f"{setting} cannot be {_shown(named)}: {why}: set it to a folder of your own") from None
    if not is_folder:
        raise ConfigError(f"{setting} is {_shown(named)}, which is not a folder: set it to a folder of your own")
    found = _vault_home(named, environ)
    return home if found is None else found[0]


def account_of_home(environ: Mapping[str, str]) -> str | None:
    """Return the id of the account whose home CODEX_HOME is: `authstate/homes/ID` in a home that has a vault.

    None if it is a home of its own, or not set.
    """
    found = _vault_home(environ.get("CODEX_HOME", "").strip(), environ)
    return None if found is None else found[1]


def _vault_home(named: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the home that has the vault, and the id of the account. Each folder on the way may be a symbolic link."""
    if not named:
        return None
    expanded = _expanded(named, environ)
    for path in (os.path.abspath(expanded), os.path.realpath(expanded)):
        folder, account = os.path.split(path)
        is_listed = os.path.isfile(os.path.join(os.path.dirname(folder), ACCOUNT_LIST))
        if folder.endswith(os.sep + ACCOUNT_HOMES) and is_listed and os.path.isdir(path):
            return os.path.realpath(os.path.dirname(os.path.dirname(folder))), account
    return None


def _expanded(named: str, environ: Mapping[str, str]) -> str:
    is_of_user = named == "~" or named.startswith(("~/", "~" + os.sep))
    return _user_folder(environ) + named[1:] if is_of_user else named


def _shown(name: str) -> str:
    """Return a file name as printable text: it may have bytes that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _user_folder(environ: Mapping[str, str]) -> str:
    folder = environ.get("USERPROFILE" if os.name == "nt" else "HOME") or _registered_folder()
    if not os.path.isabs(folder):
        raise ConfigError("there is no home folder: set CODEX_HOME to the folder that keeps the credentials")
    return folder


def _registered_folder() -> str:
    """Return the home folder in the system's user database. Empty if there is none."""
    if os.name == "nt":
        return os.path.expanduser("~")
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""
