"""config.toml and the environment: what the person and the administrator decided, read once and checked here.

Only the keys that concern an account are read; their names are codex's own. Where they are said is in settings.py.
"""

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from authstate.adapters.codex_home import ConfigError as ConfigError
from authstate.adapters.codex_home import find_home
from authstate.adapters.dotenv_file import read_dotenv
from authstate.adapters.network import Network
from authstate.adapters.settings import SYSTEM_FOLDER, Settings, read_layers
from authstate.engine.credentials import ApiKey
from authstate.engine.errors import InvalidCredentials, fresh_errors
from authstate.engine.policy import LoginMethod, Policy

DEFAULT_ISSUER = "https://auth.openai.com"
DEFAULT_CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
DEFAULT_BASE_URL = "https://chatgpt.com/backend-api"

_Choice = TypeVar("_Choice", bound=StrEnum)
_Default = TypeVar("_Default")

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
    model_url: str | None = None
    """Where codex sends the token of the login with each turn, if a setting says so. authstate sends nothing there."""


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
    @fresh_errors
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


@fresh_errors
def load_config(
    home: Path,
    overrides: Sequence[str] = (),
    system: str | None = SYSTEM_FOLDER,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read `home`/config.toml and the administrator's files (see `read_layers`). Each of them may be missing.

    Args:
        home: the folder.
        overrides: codex's `-c KEY=VALUE`: KEY with dots, VALUE in TOML, or a plain string where it is no TOML.
        system: the administrator's folder; None where there is none.
        environ: the environment variables, which may allow a host without TLS; by default those of this process.

    Raises:
        ConfigError: a file cannot be read or parsed, a key has a value that cannot be used, no login is allowed, or a
            token would leave this machine without TLS.
    """
    environ = os.environ if environ is None else environ
    layers = read_layers(home, overrides, system)
    if layers is None:
        return Config(model_url=environ.get("OPENAI_BASE_URL"))
    settings, requirements = layers.settings, layers.requirements
    policy = Policy(
        forced_login_method=_choice(settings, "forced_login_method", LoginMethod, None),
        forced_workspaces=_workspaces(settings),
    )
    store_mode = _choice(settings, "cli_auth_credentials_store", StoreMode, StoreMode.FILE)
    if requirements:
        policy = _restricted(policy, requirements)
        store_mode = _choice(requirements, "cli_auth_credentials_store", StoreMode, store_mode)
    return Config(
        policy=policy,
        store_mode=store_mode,
        chatgpt_base_url=_base_url(settings, environ),
        requires_openai_auth=_requires_openai_auth(settings),
        model_url=_model_url(settings, environ),
    )


def _restricted(policy: Policy, requirements: Settings) -> Policy:
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


def _choice(settings: Settings, key: str, kind: type[_Choice], default: _Default) -> _Choice | _Default:
    value = settings.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or value not in kind._value2member_map_:
        raise settings.fault((key,), "must be one of " + ", ".join(f'"{choice}"' for choice in kind))
    return kind(value)


def _workspaces(settings: Settings) -> tuple[str, ...]:
    key = "forced_chatgpt_workspace_id"
    value = settings.get(key)
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise settings.fault((key,), "must be a workspace id, or a list of them, as strings")
    return tuple(dict.fromkeys(one.strip() for one in values if one.strip()))


def _base_url(settings: Settings, environ: Mapping[str, str]) -> str:
    value = settings.get("chatgpt_base_url")
    if value is None:
        return DEFAULT_BASE_URL
    if not isinstance(value, str) or not _is_url(value):
        raise settings.fault(("chatgpt_base_url",), "must be a URL such as https://HOST or http://HOST:PORT")
    ensure_secure_setting(value, settings.place_of(("chatgpt_base_url",)), environ)
    return value.rstrip("/")


def _requires_openai_auth(settings: Settings) -> bool:
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


def _model_url(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Where codex sends the token: the base URL of a provider that takes OpenAI's login, where a setting names it."""
    name = settings.get("model_provider")
    if name in (None, "openai"):
        value = settings.get("openai_base_url") or environ.get("OPENAI_BASE_URL")
    elif name in _BUILT_IN_PROVIDERS or not settings.get("model_providers", name, "requires_openai_auth"):
        return None
    else:
        value = settings.get("model_providers", name, "base_url")
    return value if isinstance(value, str) else None


def _url_variable(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name, "").strip()
    if value and not _is_url(value):
        raise ConfigError(f"the environment variable {name} must be a URL such as https://HOST or http://HOST:PORT")
    if value:
        ensure_secure_setting(value, f"the environment variable {name}", environ)
    return value or None


def ensure_secure_setting(url: str, what: str, environ: Mapping[str, str]) -> None:
    """See `plain_http.ensure_secure`. Raises ConfigError where a token would leave this machine without TLS."""
    if url[:5].lower() == "http:":
        from authstate.adapters.plain_http import InsecureTransport, ensure_secure

        try:
            ensure_secure(url, what, environ)
        except InsecureTransport as error:
            raise ConfigError(str(error)) from None


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
