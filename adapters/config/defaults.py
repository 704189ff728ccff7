"""Recognizes, in a few milliseconds, a configuration that leaves what concerns an account at its defaults.

Reading such a configuration cannot fail, so that `app-server` need not read it before it answers `initialize`.
msgspec, which the settings are made of, takes longer to import than all the rest until then.
"""

import os
from collections.abc import Mapping, Sequence

from authstate.adapters.config.config_files import SYSTEM_FILES, SYSTEM_FOLDER, read_table
from authstate.adapters.config.home import ConfigError, account_of_home, find_home_path

_PREFIXES = ("AUTHSTATE_", "CODEX_", "OPENAI_")
"""The variables that are read while the configuration is read have one of these."""
_NEVER_WRONG = (
    "CODEX_API_KEY",  # app-server does not use it
    "CODEX_CA_CERTIFICATE",  # checked when it is used
    "CODEX_HOME",  # checked here
    "CODEX_INTERNAL_ORIGINATOR_OVERRIDE",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
)
_KEYS = (
    "authstate",
    "chatgpt_base_url",
    "cli_auth_credentials_store",
    "forced_chatgpt_workspace_id",
    "forced_login_method",
    "model_provider",
    "model_providers",
    "openai_base_url",
    "profile",
    "profiles",
)
"""The keys of config.toml that concern an account, at its top level."""


def home_with_defaults(
    environ: Mapping[str, str], overrides: Sequence[str] = (), system: str | None = SYSTEM_FOLDER
) -> str | None:
    """Return the home folder, if nothing is set that `app-server` could find wrong when it reads its configuration.

    Args:
        environ: the environment variables.
        overrides: the `-c KEY=VALUE` of the command line.
        system: the administrator's folder; None if there is none.

    Returns:
        None if the configuration sets something, or is invalid: reading it tells.
    """
    if overrides or any(name.startswith(_PREFIXES) and name not in _NEVER_WRONG for name in environ):
        return None
    try:
        home = find_home_path(environ)
        if account_of_home(environ) is not None:  # that home has a .env of its own
            return None
        files = [] if system is None else [os.path.join(system, name) for name in SYSTEM_FILES]
        if not all(_is_missing(path) for path in (*files, os.path.join(home, ".env"))):
            return None
        table = read_table(os.path.join(home, "config.toml"))
    except ConfigError:
        return None
    return None if table is not None and any(key in table for key in _KEYS) else home


def _is_missing(path: str) -> bool:
    """Return whether a file certainly does not exist. In a folder that this user may not search, nobody can tell."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
