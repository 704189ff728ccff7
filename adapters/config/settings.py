"""Reads and checks the settings of the person and the administrator in config.toml and the environment.

Only the keys that concern an account are read. Their names are those of codex. layers.py reads the files.
"""

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from authstate.adapters.config.config_files import SYSTEM_FOLDER
from authstate.adapters.config.dotenv_file import read_dotenv
from authstate.adapters.config.home import ConfigError as ConfigError
from authstate.adapters.config.home import account_of_home, find_home
from authstate.adapters.config.journal_setting import DEFAULT_SIZE, journal_size
from authstate.adapters.config.layers import OVERRIDE, EffectiveSetting, Layers, Settings, read_layers
from authstate.adapters.config.login_policy import METHOD, WORKSPACES, policy_of
from authstate.adapters.network.http_proxies import Network
from authstate.engine.model.arguments import wrong_type
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import InvalidCredentials, strip_tracebacks
from authstate.engine.model.policy import Policy

DEFAULT_ISSUER = "https://auth.openai.com"
DEFAULT_CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
DEFAULT_BASE_URL = "https://chatgpt.com/backend-api"

REFRESH_URL_VARIABLE, REVOKE_URL_VARIABLE = "CODEX_REFRESH_TOKEN_URL_OVERRIDE", "CODEX_REVOKE_TOKEN_URL_OVERRIDE"
BROKER_VARIABLE = "AUTHSTATE_BROKER_URL"
"""Says that codex's two variables name a broker, and which one: its URL, without a slash at the end."""
ISSUER_REFRESH_VARIABLE, ISSUER_REVOKE_VARIABLE = "AUTHSTATE_REFRESH_TOKEN_URL", "AUTHSTATE_REVOKE_TOKEN_URL"
"""What codex's two variables were before a broker took their place."""
TOKEN_PATH, REVOKE_PATH = "/oauth/token", "/oauth/revoke"

ACCOUNT_VARIABLE = "AUTHSTATE_ACCOUNT"
"""Names the account of the vault that a process uses."""

_ACCOUNT = ("authstate", "account")
ACCOUNT_KEY = ".".join(_ACCOUNT)
_STORE = "cli_auth_credentials_store"
_NEEDS_LOGIN = "requires_openai_auth"
_BUILT_IN_PROVIDERS = {
    "openai": True,
    "ollama": False,
    "lmstudio": False,
    "amazon-bedrock": False,
}  # in codex, config.toml cannot change these


class StoreMode(StrEnum):
    """The values of `cli_auth_credentials_store`."""

    FILE = "file"
    KEYRING = "keyring"
    AUTO = "auto"
    EPHEMERAL = "ephemeral"


class Config(msgspec.Struct, frozen=True):
    """The settings of config.toml and the `-c` overrides."""

    policy: Policy = Policy()
    store_mode: StoreMode = StoreMode.FILE
    chatgpt_base_url: str = DEFAULT_BASE_URL
    """Without a slash at the end."""
    requires_openai_auth: bool = True
    """Whether the selected model provider needs a login at all."""
    account: str | None = None
    """The account of the vault that is used, by its nickname or id. None: the selected one."""
    model_url: str | None = None
    """Where codex sends the token of the login with each turn, if it is set. authstate sends nothing there."""
    journal_size: int = DEFAULT_SIZE
    """Bytes that the journal of the home may have, about. 0: there is none."""


class BrokerEndpoints(msgspec.Struct, frozen=True):
    """The OAuth endpoints of a broker."""

    refresh_url: str
    revoke_url: str

    @classmethod
    def of(cls, base_url: str) -> "BrokerEndpoints":
        """The endpoints below a URL without a slash at the end."""
        return cls(base_url + TOKEN_PATH, base_url + REVOKE_PATH)


class Environment(msgspec.Struct, frozen=True):
    """The settings in environment variables."""

    home: Path
    """$CODEX_HOME without symbolic links, or ~/.codex; absolute. Only ~/.codex may be missing: a login creates it."""
    api_key: ApiKey | None = None
    """$CODEX_API_KEY. It takes precedence over the stored login in this process, and is never stored."""
    originator: str | None = None
    """$CODEX_INTERNAL_ORIGINATOR_OVERRIDE: the originator sent to the issuer, instead of the client's name."""
    refresh_url: str | None = None
    """The issuer's token endpoint, if it is another one than that of `issuer`."""
    revoke_url: str | None = None
    broker: BrokerEndpoints | None = None
    """Where the handle of a lease is sent, if this process was given a broker."""
    authapi_url: str | None = None
    """$CODEX_AUTHAPI_BASE_URL: where the owner of a personal access token is asked for, instead of the default."""
    issuer: str = DEFAULT_ISSUER
    client_id: str = DEFAULT_CLIENT_ID
    redirect_ports: tuple[int, ...] = ()
    """The ports that an issuer other than the default may redirect a browser to; 0 means any. Empty: the default
    issuer's ports.
    """
    network: Network | None = None
    """Proxies and certificate authorities, from the variables and from `home`/.env, which takes precedence. None: from
    the variables of the process when a request is sent.
    """

    @classmethod
    @strip_tracebacks
    def read(cls, environ: Mapping[str, str] | None = None, *, acts_with_key: bool = True) -> "Environment":
        """Read the variables, and the network settings in `home`/.env. A blank variable counts as not set.

        Args:
            environ: the variables. Default: those of this process.
            acts_with_key: False for a command that does not use `CODEX_API_KEY`: an invalid key then counts as not set.
                codex's app-server, `codex login` and `codex logout` do not read it.

        Raises:
            ConfigError: a variable has an invalid value, or no home folder can be found.
        """
        environ = os.environ if environ is None else environ
        key = environ.get("CODEX_API_KEY", "").strip()
        try:
            api_key = ApiKey.parse(key) if key else None
        except InvalidCredentials as error:
            if acts_with_key:
                raise ConfigError(f"in the environment variable CODEX_API_KEY, {error}") from None
            api_key = None
        home = find_home(environ)
        place = os.path.join(home, ".env")
        refresh_url, revoke_url, broker = _token_endpoints(environ)
        return cls(
            home=home,
            network=Network.read(environ, read_dotenv(place), place),
            api_key=api_key,
            originator=environ.get("CODEX_INTERNAL_ORIGINATOR_OVERRIDE", "").strip() or None,
            refresh_url=refresh_url,
            revoke_url=revoke_url,
            broker=broker,
            authapi_url=_url_variable(environ, "CODEX_AUTHAPI_BASE_URL"),
            issuer=(_url_variable(environ, "CODEX_APP_SERVER_LOGIN_ISSUER") or DEFAULT_ISSUER).rstrip("/"),
            client_id=environ.get("CODEX_APP_SERVER_LOGIN_CLIENT_ID", "").strip() or DEFAULT_CLIENT_ID,
            redirect_ports=_ports_variable(environ, "AUTHSTATE_REDIRECT_PORTS"),
        )


@strip_tracebacks
def load_config(
    home: "str | os.PathLike[str] | None" = None,
    overrides: Sequence[str] = (),
    system: str | None = SYSTEM_FOLDER,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read `home`/config.toml and the administrator's files (see `read_layers`). Each of them may be missing.

    Args:
        home: the folder, which may begin with `~/`. Default: `CODEX_HOME`, or `~/.codex`.
        overrides: codex's `-c KEY=VALUE`: KEY with dots, VALUE in TOML, or a plain string if it is not valid TOML.
        system: the administrator's folder; None if there is none.
        environ: the environment variables, which may allow a host without TLS; by default those of this process.

    Raises:
        ConfigError: a file cannot be read or parsed, a key has an invalid value, no login is allowed, or a token would
            leave this machine without TLS.
        TypeError: the overrides are one text instead of several.
    """
    if isinstance(overrides, str):
        raise wrong_type(overrides, "overrides", "a list of texts, such as ['KEY=VALUE']")
    environ = os.environ if environ is None else environ
    return read_config(
        find_home(environ) if home is None else Path(os.path.expanduser(home)), overrides, system, environ
    )[0]


@strip_tracebacks
def read_config(
    home: Path,
    overrides: Sequence[str] = (),
    system: str | None = SYSTEM_FOLDER,
    environ: Mapping[str, str] | None = None,
) -> tuple[Config, list[EffectiveSetting]]:
    """Like `load_config`. Also return the settings that are set, and where."""
    environ = os.environ if environ is None else environ
    layers = read_layers(home, overrides, system)
    if layers is None:
        account, account_from = _account_variable(environ)
        size, sized_by = journal_size(None, environ)
        decided = [] if account is None else [EffectiveSetting(ACCOUNT_KEY, account, account_from)]
        decided += [] if sized_by is None else [sized_by]
        return Config(account=account, model_url=environ.get("OPENAI_BASE_URL"), journal_size=size), decided
    settings = layers.settings
    account, account_from = _account(settings, environ)
    size, sized_by = journal_size(settings, environ)
    configured = policy_of(layers, system)
    policy = configured.policy
    store_mode = settings.choice(_STORE, StoreMode, StoreMode.FILE)
    base_url, base_url_keys = _base_url(layers, environ)
    provider, provider_keys = _provider(layers)
    needs_login = _requires_openai_auth(settings, provider)
    config = Config(
        policy=policy,
        store_mode=store_mode,
        chatgpt_base_url=base_url,
        requires_openai_auth=needs_login,
        account=account,
        model_url=_model_url(settings, provider, needs_login, environ),
        journal_size=size,
    )
    needs_keys = ("model_providers", provider or "", _NEEDS_LOGIN)
    decisions = [
        EffectiveSetting(METHOD, policy.forced_login_method, configured.method_file),
        EffectiveSetting(WORKSPACES, list(policy.forced_workspaces), configured.workspaces_file),
        EffectiveSetting(_STORE, store_mode, settings.origin(_STORE)),
        EffectiveSetting(ACCOUNT_KEY, account, account_from),
        EffectiveSetting(".".join(base_url_keys), _without_password(base_url), settings.origin(*base_url_keys)),
        EffectiveSetting(".".join(provider_keys), provider, settings.origin(*provider_keys)),
    ]
    if sized_by is not None:
        decisions.append(sized_by)
    if provider not in _BUILT_IN_PROVIDERS:
        decisions.append(EffectiveSetting(".".join(needs_keys), needs_login, settings.origin(*needs_keys)))
    return config, [decision for decision in decisions if decision.decided_by is not None]


def _account(settings: Settings, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the account that `-c`, a variable or a file names, in this order, and which of them names it."""
    named = settings.get(*_ACCOUNT)
    if named is not None and (not isinstance(named, str) or not named.strip()):
        raise settings.fault(_ACCOUNT, "must be the name of an account: `authstate account list` shows them")
    variable, origin_of_variable = _account_variable(environ)
    origin = settings.origin(*_ACCOUNT)
    return (variable, origin_of_variable) if variable is not None and origin != OVERRIDE else (named, origin)


def _account_variable(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the account that a variable names, and which variable. The home of an account stands for the account."""
    if named := environ.get(ACCOUNT_VARIABLE, "").strip():
        return named, ACCOUNT_VARIABLE
    account = account_of_home(environ)
    return account, None if account is None else "CODEX_HOME"


def _selected(layers: Layers, key: str) -> tuple[Any, tuple[str, ...]]:
    """Return the value of a key in the selected profile, or else at the top level, and the path of keys to that value.

    Measured with codex 0.93.0: a profile takes precedence even over `-c` with the same key, and a missing profile is
    ignored. From 0.150.0 on, config.toml has no profiles, and codex refuses to start if `-c` names one.
    requirements.toml always takes precedence.
    """
    settings = layers.settings
    if layers.requirements is not None and layers.requirements.get(key) is not None:
        return settings.get(key), (key,)
    name = settings.get("profile")
    if name is not None and not isinstance(name, str):
        raise settings.fault(("profile",), "must be a string")
    if name is not None and (value := settings.get("profiles", name, key)) is not None:
        return value, ("profiles", name, key)
    return settings.get(key), (key,)


def _base_url(layers: Layers, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    value, keys = _selected(layers, "chatgpt_base_url")
    if value is None:
        return DEFAULT_BASE_URL, keys
    if not isinstance(value, str) or not _is_url(value):
        raise layers.settings.fault(keys, "must be a URL such as https://HOST or http://HOST:PORT")
    ensure_secure_setting(value, layers.settings.place_of(keys), environ)
    return value.rstrip("/"), keys


def _provider(layers: Layers) -> tuple[str | None, tuple[str, ...]]:
    """Return the selected model provider, and the keys that select it."""
    value, keys = _selected(layers, "model_provider")
    if value is not None and not isinstance(value, str):
        raise layers.settings.fault(keys, "must be a string")
    return value, keys


def _requires_openai_auth(settings: Settings, provider: str | None) -> bool:
    """Return whether a provider needs a login. An undefined provider does."""
    if provider is None:
        return True
    if provider in _BUILT_IN_PROVIDERS:
        return _BUILT_IN_PROVIDERS[provider]
    if settings.get("model_providers", provider) is None:
        return True
    keys = ("model_providers", provider, _NEEDS_LOGIN)
    value = settings.get(*keys)
    if value is not None and not isinstance(value, bool):
        raise settings.fault(keys, "must be true or false")
    return bool(value)


def _without_password(url: str) -> str:
    """Return a URL without its user name, password and query."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _model_url(settings: Settings, provider: str | None, needs_login: bool, environ: Mapping[str, str]) -> str | None:
    """Return where codex sends the token: the base URL, if it is set, of a provider that takes OpenAI's login."""
    if provider in (None, "openai"):
        value = settings.get("openai_base_url") or environ.get("OPENAI_BASE_URL")
    else:
        value = settings.get("model_providers", provider, "base_url") if needs_login and provider else None
    return value if isinstance(value, str) else None


def _url_variable(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name, "").strip()
    if value and not _is_url(value):
        raise ConfigError(f"the environment variable {name} must be a URL such as https://HOST or http://HOST:PORT")
    if value:
        ensure_secure_setting(value, f"the environment variable {name}", environ)
    return value or None


def ensure_secure_setting(url: str, what: str, environ: Mapping[str, str]) -> None:
    """See `insecure_http.ensure_secure`. Raises ConfigError if a token would leave this machine without TLS."""
    if url[:5].lower() == "http:":
        from authstate.adapters.network.insecure_http import InsecureTransport, ensure_secure

        try:
            ensure_secure(url, what, environ)
        except InsecureTransport as error:
            raise ConfigError(str(error)) from None


def _token_endpoints(environ: Mapping[str, str]) -> tuple[str | None, str | None, BrokerEndpoints | None]:
    """Return the issuer's two endpoints, as far as they are set, and those of a broker that took their place."""
    names = _url_variable(environ, REFRESH_URL_VARIABLE), _url_variable(environ, REVOKE_URL_VARIABLE)
    base_url = (_url_variable(environ, BROKER_VARIABLE) or "").rstrip("/")
    broker = BrokerEndpoints.of(base_url) if base_url else None
    if broker is None or names[0] != broker.refresh_url:
        return *names, None
    return _url_variable(environ, ISSUER_REFRESH_VARIABLE), _url_variable(environ, ISSUER_REVOKE_VARIABLE), broker


def _ports_variable(environ: Mapping[str, str], name: str) -> tuple[int, ...]:
    words = environ.get(name, "").replace(",", " ").split()
    if not all(word.isascii() and word.isdigit() and len(word) < 6 and int(word) < 65536 for word in words):
        raise ConfigError(f"the environment variable {name} must be port numbers with commas between them")
    return tuple(int(word) for word in words)


def _is_url(text: str) -> bool:
    from urllib.parse import urlsplit  # imported here, because few people set a URL

    try:
        parts = urlsplit(text)
        is_reachable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # an unclosed bracket or an invalid port
        return False
    return is_reachable and parts.scheme in ("http", "https") and text.isprintable() and " " not in text
