"""Builds an engine from the configuration and the environment."""

import os
from typing import TYPE_CHECKING, TypedDict, Unpack

import msgspec

from authstate.adapters.config import Config, ConfigError, Environment, StoreMode, load_config
from authstate.adapters.config.home import find_home_path
from authstate.engine.model.arguments import ensure_instance

if TYPE_CHECKING:
    from random import Random

    from authstate.engine.engine import AuthEngine
    from authstate.engine.machines.recovery import RecoveryPlan
    from authstate.engine.model.credentials import ApiKey
    from authstate.engine.model.policy import Policy
    from authstate.engine.model.refresh_settings import RefreshSettings
    from authstate.engine.ports import Clock, CredentialStore, ExternalTokenSource, TokenAuthority


class EngineOptions(TypedDict, total=False):
    """The arguments of `AuthEngine` other than its store and its authority."""

    parent: "ExternalTokenSource | None"
    policy: "Policy | None"
    clock: "Clock | None"
    random: "Random | None"
    settings: "RefreshSettings | None"
    api_key: "ApiKey | None"
    recovery: "RecoveryPlan | None"


def open_store(config: Config, environment: Environment, clock: "Clock | None" = None) -> "CredentialStore":
    """Create the store that the configuration selects, of the account that it names or that is selected in the vault.

    It reads the list of accounts, and nothing else before its first use.

    Args:
        config: the settings of config.toml.
        environment: the settings in environment variables, with the home.
        clock: times the waits of the store. Default: the clock of this machine.

    Raises:
        ConfigError: there is no such account, or credentials in memory are to have one.
        StoreUnavailable: an account is named, and the list of accounts cannot be read.
    """
    if config.store_mode is StoreMode.EPHEMERAL:
        from authstate.adapters.stores.memory import MemoryStore

        if config.account is not None:
            raise ConfigError(
                f'there is no account {config.account!r}: cli_auth_credentials_store = "ephemeral" keeps one login in '
                "memory. Name no account, or use another store"
            )
        return MemoryStore()
    from authstate.adapters.vault.vault import Vault
    from authstate.adapters.vault.vault_store import VaultStore

    return VaultStore(Vault(environment.home, config.store_mode, clock), config.account)


def open_engine(
    config: Config | None = None,
    environment: Environment | None = None,
    *,
    home: "str | os.PathLike[str] | None" = None,
    account: str | None = None,
    store: "CredentialStore | None" = None,
    authority: "TokenAuthority | None" = None,
    **options: Unpack[EngineOptions],
) -> "AuthEngine":
    """Create an engine for the login of a home. Start it with `async with`.

    Without arguments, this is the login that codex and the command `authstate` use. Before the engine starts, only the
    configuration and the list of accounts are read. The engine writes a line to the logger `authstate.engine` for each
    event (`log_events`), which nobody sees before the program configures `logging`. It also keeps the journal of the
    home, unless the configuration turns that off or another store is given.

    Args:
        config: the settings of config.toml. Default: they are read from the home.
        environment: the settings in environment variables. Default: those of this process.
        home: the folder that holds the login, instead of `CODEX_HOME` and `~/.codex`. It must exist.
        account: the nickname or id of an account of the home, instead of the one that is configured or selected.
        store: used instead of the configured store.
        authority: used instead of the configured issuer.
        options: other arguments of `AuthEngine`. They win over the configuration.

    Raises:
        ConfigError: a setting is invalid, or there is no such home or account.
        StoreUnavailable: an account is named, and the list of accounts cannot be read.
        TypeError: both `home` and `environment` are given (`Environment.home` is the home), or an argument has another
            type.
    """
    from authstate.adapters.logs.event_lines import log_events

    _ensure_settings(config, environment)
    if environment is None:
        environment = Environment.read(None if home is None else _variables_of(home))
    elif home is not None:
        raise TypeError("open_engine takes `home` or `environment`, not both: `environment.home` is the home")
    if config is None:
        config = load_config(environment.home)
    if account is not None:
        config = msgspec.structs.replace(config, account=account)

    keeps_journal = store is None  # what another store keeps is not of this home
    engine = build_engine(config, environment, store=store, authority=authority, keeps_journal=keeps_journal, **options)
    log_events(engine)
    return engine


def _variables_of(home: "str | os.PathLike[str]") -> dict[str, str]:
    """Return the environment variables of this process, with a home that was given as an argument.

    Raises:
        ConfigError: the home is empty, which would mean that of the user, or there is no such folder.
    """
    named = os.fspath(home)
    if not named.strip():
        raise ConfigError("home is empty: name the folder that holds the login, or leave it out to use CODEX_HOME")
    variables = {**os.environ, "CODEX_HOME": named}
    find_home_path(variables, "home")
    return variables


def _ensure_settings(config: object, environment: object) -> None:
    """Refuse what is often given in place of these two: a folder, and a mapping."""
    if config is not None:
        wanted = "a Config of load_config(), and a folder as `home`: open_engine(home=folder)"
        ensure_instance(config, Config, "config", wanted)
    if environment is not None:
        ensure_instance(environment, Environment, "environment", "an Environment, such as Environment.read(mapping)")


def build_engine(
    config: Config,
    environment: Environment,
    *,
    store: "CredentialStore | None" = None,
    authority: "TokenAuthority | None" = None,
    keeps_journal: bool = True,
    **options: Unpack[EngineOptions],
) -> "AuthEngine":
    """Create an engine as `open_engine` does, for a program that writes log lines about it itself, or none.

    Args:
        config: see `open_engine`.
        environment: see `open_engine`.
        store: used instead of the configured store.
        authority: used instead of the configured issuer.
        keeps_journal: whether the store is of the home, so that its journal tells of it, unless a setting turns it off.
        options: other arguments of `AuthEngine`.
    """
    from authstate.engine.engine import AuthEngine

    said: EngineOptions = {"policy": config.policy, "api_key": environment.api_key, **options}
    if store is None:
        store = open_store(config, environment, said.get("clock"))
    if authority is None:
        authority = open_authority(environment)
    engine = AuthEngine(store, authority, **said)
    if keeps_journal and config.journal_size and config.store_mode is not StoreMode.EPHEMERAL:
        from authstate.adapters.journal.recorder import record_journal

        record_journal(engine, environment.home, config.journal_size)
    return engine


def open_authority(environment: Environment) -> "TokenAuthority":
    """Create the client of the issuer's token endpoint. It connects with the first request.

    The handle of a lease goes to the broker that the environment names, and a refresh token to the issuer.

    Args:
        environment: the settings in environment variables: the issuer, its endpoints, the network and the broker.
    """
    from authstate.adapters.oauth.lease_authority import LeaseAwareAuthority
    from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority

    def endpoints(refresh_url: str | None, revoke_url: str | None) -> HttpTokenAuthority:
        return HttpTokenAuthority(
            environment.issuer,
            environment.client_id,
            refresh_url=refresh_url,
            revoke_url=revoke_url,
            authapi_url=environment.authapi_url,
            network=environment.network,
        )

    issuer = endpoints(environment.refresh_url, environment.revoke_url)
    if environment.broker is not None:
        return LeaseAwareAuthority(issuer, endpoints(environment.broker.refresh_url, environment.broker.revoke_url))
    return LeaseAwareAuthority(issuer, issuer if environment.refresh_url is not None else None)
