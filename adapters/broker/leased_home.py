"""Writes a home for a sandbox or a container image: a lease in the place of a login, and no refresh token anywhere."""

import os
import stat
import sys

import msgspec

from authstate.adapters.broker.account_tokens import NewLease
from authstate.adapters.config import Config, ConfigError
from authstate.adapters.config.settings import (
    BROKER_VARIABLE,
    DEFAULT_BASE_URL,
    REFRESH_URL_VARIABLE,
    REVOKE_URL_VARIABLE,
    BrokerEndpoints,
)
from authstate.adapters.network.insecure_http import ALLOWED_HOSTS_VARIABLE
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.vault.home_account import leased

AUTH_FILE, CONFIG_FILE, ENVIRONMENT_FILE = "auth.json", "config.toml", "authstate.env"


def lease_environment(broker_url: str, allowed_host: str | None = None) -> dict[str, str]:
    """Return the environment variables that a codex or authstate process with a lease needs. They are no secrets.

    Args:
        broker_url: as the process reaches the broker, without a slash at the end.
        allowed_host: a host that the owner allows without TLS.
    """
    endpoints = BrokerEndpoints.of(broker_url)
    found = {
        REFRESH_URL_VARIABLE: endpoints.refresh_url,
        REVOKE_URL_VARIABLE: endpoints.revoke_url,
        BROKER_VARIABLE: broker_url,
    }
    return found if allowed_host is None else {**found, ALLOWED_HOSTS_VARIABLE: allowed_host}


def ensure_usable(folder: str) -> None:
    """Check that a home can be written into a folder, before a lease is made for it.

    Raises ConfigError: there is a login already, or other users can use the folder.
    """
    try:
        found = os.stat(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"cannot use {folder}: {(error.strerror or type(error).__name__).lower()}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{folder} is not a folder: name one that is new or empty")
    if sys.platform != "win32" and (found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077):
        raise ConfigError(f"other users can use the folder {folder}: name a new one, or run `chmod 700` on it first")
    if os.path.lexists(os.path.join(folder, AUTH_FILE)):
        raise ConfigError(f"{folder} holds a login already, which stays as it is: name another folder")


async def write_leased_home(folder: str, made: NewLease, config: Config, environment: dict[str, str]) -> list[str]:
    """Write auth.json with the access token and the handle, the settings that it needs, and `authstate.env`.

    Args:
        folder: made if it is missing, for this user only.
        made: the lease.
        config: of the home of the account. A base URL other than the default is written into config.toml, unless there
            is one.
        environment: the variables that a process needs, for `docker run --env-file` and for a shell.

    Returns:
        The paths of what was written.

    Raises:
        ConfigError: see `ensure_usable`.
        StoreUnavailable, OSError: something could not be written.
    """
    ensure_usable(folder)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    written = []
    base_url = config.chatgpt_base_url
    if base_url != DEFAULT_BASE_URL and not os.path.lexists(os.path.join(folder, CONFIG_FILE)):
        line = f"chatgpt_base_url = {msgspec.json.encode(base_url).decode()}\n"
        written.append(_write(os.path.join(folder, CONFIG_FILE), line))
    lines = "".join(f"{name}={value}\n" for name, value in environment.items())
    written.append(_write(os.path.join(folder, ENVIRONMENT_FILE), lines))
    async with AuthJsonStore(folder).locked() as held:
        if await held.load() is not None:
            raise ConfigError(f"{folder} holds a login already, which stays as it is: name another folder")
        await held.save(leased(made.tokens, made.handle.secret.reveal()))
    return [*written, os.path.join(folder, AUTH_FILE)]


def _write(path: str, text: str) -> str:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    return path
