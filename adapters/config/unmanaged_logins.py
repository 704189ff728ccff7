"""Finds logins that codex uses by itself. authstate names them, and does not change those that it does not manage.

Releases from 0.150.0 on use them instead of a ChatGPT login. Some are set in the environment, the others are members
of auth.json or of the same record in the keyring. Using the ChatGPT login beside them would mean acting as another
account.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from authstate.adapters.config.config_files import SYSTEM_FILES, SYSTEM_FOLDER, read_text
from authstate.adapters.config.home import ConfigError
from authstate.adapters.config.layers import read_layers
from authstate.adapters.stores.unmanaged_records import MODES, PERSONAL, OtherLogin, find_in_record

ACCESS_TOKEN_VARIABLE = "CODEX_ACCESS_TOKEN"
_WORKLOAD_IDENTITY = (
    "OPENAI_IDENTITY_TOKEN_FILE",
    "OPENAI_FEDERATION_RULE_ID",
    "OPENAI_IDENTITY_TOKEN_SOURCE",
    "OPENAI_SPIFFE_AUDIENCE",
)
"""Each of them selects a workload identity. codex refuses to start if one that it needs is missing."""
_LARGEST = 4 * 1024 * 1024  # bytes
_STORE = "cli_auth_credentials_store"
_IN_KEYRING = ("keyring", "auto")
_KEYRING_WITHIN = 10.0  # seconds


def find_in_environment(environ: Mapping[str, str]) -> OtherLogin | None:
    """Return the login that the environment sets for codex. None if there is none.

    codex prefers a workload identity to an access token. It reads the variables of a workload identity in
    `$CODEX_HOME/.env`, too. (Measured with 0.169.0 and 0.171.0.)
    """
    if named := [name for name in _WORKLOAD_IDENTITY if environ.get(name, "").strip()] or _in_dotenv(environ):
        return OtherLogin("workloadIdentity", "a workload identity", ", ".join(named))
    token = environ.get(ACCESS_TOKEN_VARIABLE, "").strip()
    if not token:
        return None
    login = PERSONAL if token.startswith("at-") else MODES["agentIdentity"]
    return OtherLogin(login.kind, login.name, ACCESS_TOKEN_VARIABLE)


def ensure_none_in_environment(environ: Mapping[str, str]) -> None:
    """Raise ConfigError if the environment sets a login for codex: the stored login would be another account."""
    if other := find_in_environment(environ):
        raise ConfigError(
            f"the environment sets {other}, which codex uses instead of the stored login, and which authstate does not "
            "manage: unset it, or use codex itself"
        )


def _in_dotenv(environ: Mapping[str, str]) -> list[str]:
    path = os.path.join(_home(environ), ".env")
    if not os.path.exists(path):
        return []
    from authstate.adapters.config.dotenv_file import read_dotenv

    values = read_dotenv(path)
    return [f"{name} in {path}" for name in _WORKLOAD_IDENTITY if values.get(name, "").strip()]


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("CODEX_HOME", "").strip() or os.path.join(os.path.expanduser("~"), ".codex")


def find_in_file(path: str) -> OtherLogin | None:
    """Return the login in an auth.json that codex uses by itself. None if there is none.

    None, too, if the file is unreadable: the store reports that.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST)
    except OSError:
        return None
    return find_in_record(data)


def find_unmanaged_login(
    environ: Mapping[str, str],
    overrides: Sequence[str] = (),
    system: str | None = SYSTEM_FOLDER,
    *,
    uses_home: Callable[[], bool] = lambda: True,
) -> OtherLogin | None:
    """Return the login that codex would use by itself in this environment. None if authstate can give it one.

    Args:
        environ: the environment variables.
        overrides: the `-c KEY=VALUE` of the command, which may select the store.
        system: the administrator's folder.
        uses_home: whether the account in use is the home's own. Called only after something was found in the home: if
            another account is used, codex does not use that.

    A keyring is read only if the configuration selects it, for at most ten seconds, because it may ask the person.
    """
    named = find_in_environment(environ)
    if named is not None:
        return named
    found = _find_stored(environ, overrides, system)
    return found if found is not None and uses_home() else None


def _find_stored(environ: Mapping[str, str], overrides: Sequence[str], system: str | None) -> OtherLogin | None:
    """Return the login in the home that codex uses by itself. None if there is none."""
    home = _home(environ)
    mode = _store_mode(home, overrides, system)
    if mode == "ephemeral":
        return None
    if mode in _IN_KEYRING:
        record = _keyring_record(home)
        if record is not None or mode == "keyring":
            return None if record is None else find_in_record(record)
    return find_in_file(os.path.join(home, "auth.json"))


def _store_mode(home: str, overrides: Sequence[str], system: str | None) -> object:
    """Return the configured store. None if it is not set, or if a file is invalid: that is reported later."""
    places = [os.path.join(home, "config.toml")]
    if system is not None:
        places += [os.path.join(system, name) for name in SYSTEM_FILES]
    if not any(_STORE in text for text in (*overrides, *map(_text, places))):
        return None  # nothing that can parse TOML is imported
    from pathlib import Path

    try:
        layers = read_layers(Path(home), overrides, system)
    except ConfigError:
        return None
    return None if layers is None else layers.settings.get(_STORE)


def _text(path: str) -> str:
    try:
        return read_text(path) or ""
    except ConfigError:
        return ""


def _keyring_record(home: str) -> bytes | None:
    """Return the record of this home in the keyring. None if there is none, or if it cannot be read in time."""
    import threading

    from authstate.adapters.stores.keyring import SERVICE, account_of_home
    from authstate.adapters.stores.keyring_entry import KeyringEntry
    from authstate.engine.model.errors import StoreUnavailable

    found: list[str | None] = []

    def read() -> None:
        with suppress(StoreUnavailable):
            found.append(KeyringEntry(SERVICE, account_of_home(home)).read())

    reading = threading.Thread(target=read, name="authstate-keyring", daemon=True)
    reading.start()
    reading.join(_KEYRING_WITHIN)
    return found[0].encode() if found and found[0] is not None else None
