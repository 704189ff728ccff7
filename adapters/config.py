"""config.toml and the environment: what the person and the administrator decided, read once and checked here.

Only the keys that concern an account are read; their names are codex's own. Where there is no config.toml and no
override, nothing that can parse TOML is imported. tomli reads TOML 1.1, as codex does; the standard library's parser of
Python 3.11 to 3.14 stops at an inline table over several lines.
"""

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from authstate.adapters.codex_home import ConfigError as ConfigError
from authstate.adapters.codex_home import find_home
from authstate.adapters.dotenv_file import read_dotenv
from authstate.adapters.network import Network
from authstate.engine.credentials import ApiKey
from authstate.engine.errors import InvalidCredentials
from authstate.engine.policy import LoginMethod, Policy

DEFAULT_ISSUER = "https://auth.openai.com"
DEFAULT_CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
DEFAULT_BASE_URL = "https://chatgpt.com/backend-api"

_Choice = TypeVar("_Choice", bound=StrEnum)
_Default = TypeVar("_Default")

SYSTEM_FOLDER = None if os.name == "nt" else "/etc/codex"
"""Where the administrator's files are. What codex reads on Windows was not measured, and is not read here."""

_SYSTEM_FILES = ("config.toml", "managed_config.toml", "requirements.toml")
_LARGEST = 4 * 1024 * 1024  # bytes
_REPAIR = "repair the file, or move it away"
_BUILT_IN_PROVIDERS = {
    "openai": True,
    "ollama": False,
    "lmstudio": False,
    "amazon-bedrock": False,
}  # codex lets no table change these


class StoreMode(StrEnum):
    """The values of `cli_auth_credentials_store`."""

    FILE = "file"
    KEYRING = "keyring"
    AUTO = "auto"
    EPHEMERAL = "ephemeral"


class Config(msgspec.Struct, frozen=True):
    """What config.toml says, with the `-c` overrides on top."""

    policy: Policy = Policy()
    store_mode: StoreMode = StoreMode.FILE
    chatgpt_base_url: str = DEFAULT_BASE_URL
    """Without a slash at the end."""
    requires_openai_auth: bool = True
    """Whether the selected model provider needs a login at all."""


class Environment(msgspec.Struct, frozen=True):
    """What the environment variables say."""

    home: Path
    """$CODEX_HOME without symbolic links, or ~/.codex; absolute. Only ~/.codex may be missing: a login makes it."""
    api_key: ApiKey | None = None
    """$CODEX_API_KEY: wins over what is stored, for this process, and is never stored."""
    originator: str | None = None
    """$CODEX_INTERNAL_ORIGINATOR_OVERRIDE: as whom the issuer is asked, in place of the client's name."""
    refresh_url: str | None = None
    revoke_url: str | None = None
    issuer: str = DEFAULT_ISSUER
    client_id: str = DEFAULT_CLIENT_ID
    redirect_ports: tuple[int, ...] = ()
    """Where a browser may come back to, for an issuer of one's own; 0 is any. Empty: as the default issuer wishes."""
    network: Network | None = None
    """Proxies and certificate authorities, by the variables and by `home`/.env, which wins. None: by the variables of
    the process when a request is sent."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Environment":
        """Read the variables, and what `home`/.env says of the network. A variable that is blank counts as not set.

        Raises:
            ConfigError: a variable holds what cannot be used, or there is no home folder to be found.
        """
        key = environ.get("CODEX_API_KEY", "").strip()
        try:
            api_key = ApiKey.parse(key) if key else None
        except InvalidCredentials as error:
            raise ConfigError(f"in the environment variable CODEX_API_KEY, {error}") from None
        home = find_home(environ)
        place = os.path.join(home, ".env")
        return cls(
            home=home,
            network=Network.read(environ, read_dotenv(place), place),
            api_key=api_key,
            originator=environ.get("CODEX_INTERNAL_ORIGINATOR_OVERRIDE", "").strip() or None,
            refresh_url=_url_variable(environ, "CODEX_REFRESH_TOKEN_URL_OVERRIDE"),
            revoke_url=_url_variable(environ, "CODEX_REVOKE_TOKEN_URL_OVERRIDE"),
            issuer=(_url_variable(environ, "CODEX_APP_SERVER_LOGIN_ISSUER") or DEFAULT_ISSUER).rstrip("/"),
            client_id=environ.get("CODEX_APP_SERVER_LOGIN_CLIENT_ID", "").strip() or DEFAULT_CLIENT_ID,
            redirect_ports=_ports_variable(environ, "AUTHSTATE_REDIRECT_PORTS"),
        )


def load_config(home: Path, overrides: Sequence[str] = (), system: str | None = SYSTEM_FOLDER) -> Config:
    """Read `home`/config.toml and the administrator's files. Each of them may be missing.

    From the weakest to the strongest, as measured with codex 0.93.0 and 0.169.0: `system`/config.toml,
    `home`/config.toml, the overrides, `system`/managed_config.toml. `system`/requirements.toml restricts what they say.

    Args:
        home: the folder.
        overrides: codex's `-c KEY=VALUE`: KEY with dots, VALUE in TOML, or a plain string where it is no TOML.
        system: the administrator's folder; None where there is none.

    Raises:
        ConfigError: a file cannot be read or parsed, a key has a value that cannot be used, or no login is allowed.
    """
    path = os.path.join(home, "config.toml")
    weakest, strongest, required = (_read_system(system, name) for name in _SYSTEM_FILES)
    text = _read(path)
    if text is None and not overrides and not (weakest or strongest or required):
        return Config()
    settings = _Settings(path)
    for layer in (weakest, (path, _parse(text, path)) if text is not None else None):
        if layer:
            settings.merge(*layer)
    for override in overrides:
        settings.override(override)
    if strongest:
        settings.merge(*strongest)
    policy = Policy(
        forced_login_method=_choice(settings, "forced_login_method", LoginMethod, None),
        forced_workspaces=_workspaces(settings),
    )
    store_mode = _choice(settings, "cli_auth_credentials_store", StoreMode, StoreMode.FILE)
    if required:
        requirements = _Settings(required[0])
        requirements.merge(*required)
        policy = _restricted(policy, requirements)
        store_mode = _choice(requirements, "cli_auth_credentials_store", StoreMode, store_mode)
    return Config(
        policy=policy,
        store_mode=store_mode,
        chatgpt_base_url=_base_url(settings),
        requires_openai_auth=_requires_openai_auth(settings),
    )


def _read_system(folder: str | None, name: str) -> tuple[str, dict[str, Any]] | None:
    """The path of one of the administrator's files and what it says; None where there is none."""
    if folder is None:
        return None
    path = os.path.join(folder, name)
    text = _read(path)
    return None if text is None else (path, _parse(text, path))


def _restricted(policy: Policy, requirements: "_Settings") -> Policy:
    """What is left of a policy under requirements.toml, as codex 0.169.0 has it."""
    methods = set(LoginMethod) if policy.forced_login_method is None else {policy.forced_login_method}
    key = "allowed_login_methods"
    allowed = requirements.get(key)
    if allowed is not None:
        if not isinstance(allowed, list) or not all(one in LoginMethod._value2member_map_ for one in map(str, allowed)):
            raise requirements.fault((key,), 'must be a list of "chatgpt" and "api"')
        methods &= {LoginMethod(one) for one in allowed}
    workspaces = policy.forced_workspaces
    key = "allowed_chatgpt_workspaces"
    allowed = requirements.get(key)
    if allowed is not None:
        if not isinstance(allowed, list) or not all(isinstance(one, str) for one in allowed):
            raise requirements.fault((key,), "must be a list of workspace ids, as strings")
        named = tuple(dict.fromkeys(one.strip() for one in allowed if one.strip()))
        workspaces = tuple(one for one in workspaces if one in named) if workspaces else named
        if not workspaces:
            methods.discard(LoginMethod.CHATGPT)
    if not methods:
        raise requirements.fault((), "and the other settings together allow no way to sign in: ask your administrator")
    return Policy(methods.pop() if len(methods) == 1 else None, workspaces)


class _Settings:
    """The settings of several files and overrides, each on top of the ones before, and where each key was said."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._table: dict[str, Any] = {}
        self._origins: dict[tuple[str, ...], str] = {}
        """Who said a key, the last one last."""

    def merge(self, path: str, table: dict[str, Any]) -> None:
        """Put a file on top: a table is merged with the one before, another value takes its place."""
        _merge(self._table, table)
        for key in table:
            self._origins.pop((key,), None)
            self._origins[(key,)] = path

    def override(self, text: str) -> None:
        """Put one `KEY=VALUE` on top. Raises ConfigError."""
        name, equals, value = text.partition("=")
        keys = tuple(part.strip() for part in name.split("."))
        if not equals or not all(keys):
            raise ConfigError("an override (-c) must be KEY=VALUE, where KEY may have dots: " + repr(name[:80]))
        table = self._table
        for key in keys[:-1]:
            inner = table.get(key)
            if not isinstance(inner, dict):
                inner = table[key] = {}
            table = inner
        table[keys[-1]] = _override_value(value)
        self._origins.pop(keys, None)
        self._origins[keys] = "the override (-c)"

    def get(self, *keys: str) -> Any:
        """The value, None where it is missing. Raises ConfigError where a table is expected and another thing found."""
        value: Any = self._table
        for depth, key in enumerate(keys):
            if not isinstance(value, dict):
                raise self.fault(keys[:depth], "must be a table")
            if key not in value:
                return None
            value = value[key]
        return value

    def fault(self, keys: tuple[str, ...], must: str) -> ConfigError:
        """The error for a key: where it was said, and what it must be."""
        said = (who for over, who in reversed(self._origins.items()) if keys[: len(over)] == over[: len(keys)])
        place = next(said, self._path) if keys else self._path
        return ConfigError(f"{place}: {'.'.join(keys)} {must}".replace(":  ", ": "))


def _merge(table: dict[str, Any], top: dict[str, Any]) -> None:
    for key, value in top.items():
        below = table.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _merge(below, value)
        else:
            table[key] = value


def _choice(settings: _Settings, key: str, kind: type[_Choice], default: _Default) -> _Choice | _Default:
    value = settings.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or value not in kind._value2member_map_:
        raise settings.fault((key,), "must be one of " + ", ".join(f'"{choice}"' for choice in kind))
    return kind(value)


def _workspaces(settings: _Settings) -> tuple[str, ...]:
    key = "forced_chatgpt_workspace_id"
    value = settings.get(key)
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise settings.fault((key,), "must be a workspace id, or a list of them, as strings")
    return tuple(dict.fromkeys(one.strip() for one in values if one.strip()))


def _base_url(settings: _Settings) -> str:
    value = settings.get("chatgpt_base_url")
    if value is None:
        return DEFAULT_BASE_URL
    if not isinstance(value, str) or not _is_url(value):
        raise settings.fault(("chatgpt_base_url",), "must be a URL such as https://HOST or http://HOST:PORT")
    return value.rstrip("/")


def _requires_openai_auth(settings: _Settings) -> bool:
    name = settings.get("model_provider")
    if name is None:
        return True
    if not isinstance(name, str):
        raise settings.fault(("model_provider",), "must be a string")
    if name in _BUILT_IN_PROVIDERS:
        return _BUILT_IN_PROVIDERS[name]
    table = settings.get("model_providers", name)
    if table is None:
        return True
    keys = ("model_providers", name, "requires_openai_auth")
    value = settings.get(*keys)
    if value is not None and not isinstance(value, bool):
        raise settings.fault(keys, "must be true or false")
    return bool(value)


def _override_value(text: str) -> Any:
    import tomli

    try:
        return tomli.loads(f"value = {text.strip()}")["value"]
    except (tomli.TOMLDecodeError, RecursionError):
        return text.strip().strip("\"'")


def _read(path: str) -> str | None:
    """The text of the file, None when there is none."""
    from authstate.adapters.stores.disk import Disk

    try:
        data = Disk().read(path, _LARGEST + 1)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise ConfigError(f"cannot read {path}: set CODEX_HOME to a folder: a part of this path is a file") from None
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        what = "give this user read access to it and to its folder" if isinstance(error, PermissionError) else _REPAIR
        raise ConfigError(f"cannot read {path}: {why}: {what}") from None
    if len(data) > _LARGEST:
        raise ConfigError(f"{path} is larger than {_LARGEST} bytes: that is no configuration")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is no UTF-8 text: save the file as UTF-8") from None


def _parse(text: str, path: str) -> dict[str, Any]:
    import tomli

    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{path} is no TOML: {error.msg} ({place})") from None
    except RecursionError:
        raise ConfigError(f"{path} is no configuration: it is nested too deeply") from None


def _url_variable(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name, "").strip()
    if value and not _is_url(value):
        raise ConfigError(f"the environment variable {name} must be a URL such as https://HOST or http://HOST:PORT")
    return value or None


def _ports_variable(environ: Mapping[str, str], name: str) -> tuple[int, ...]:
    words = environ.get(name, "").replace(",", " ").split()
    if not all(word.isascii() and word.isdigit() and len(word) < 6 and int(word) < 65536 for word in words):
        raise ConfigError(f"the environment variable {name} must be port numbers with commas between them")
    return tuple(int(word) for word in words)


def _is_url(text: str) -> bool:
    from urllib.parse import urlsplit  # imported here: few people set a URL

    try:
        parts = urlsplit(text)
        is_reachable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number or too high
        return False
    return is_reachable and parts.scheme in ("http", "https") and text.isprintable() and " " not in text
