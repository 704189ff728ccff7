"""Builds an engine from the configuration and the environment."""

from typing import TYPE_CHECKING, TypedDict, Unpack

from authstate.adapters.config import Config, Environment, StoreMode

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
    """Create the store that the configuration selects. It accesses nothing before its first use."""
    if config.store_mode is StoreMode.EPHEMERAL:
        from authstate.adapters.stores.memory import MemoryStore

        return MemoryStore()
    if config.store_mode is StoreMode.FILE:
        from authstate.adapters.stores.file_store import AuthJsonStore

        return AuthJsonStore(environment.home, clock=clock)
    from authstate.adapters.stores.keyring import AutoStore, KeyringStore

    kind = KeyringStore if config.store_mode is StoreMode.KEYRING else AutoStore
    return kind(environment.home, clock=clock)


def open_engine(
    config: Config,
    environment: Environment,
    *,
    store: "CredentialStore | None" = None,
    authority: "TokenAuthority | None" = None,
    **options: Unpack[EngineOptions],
) -> "AuthEngine":
    """Create an engine that is not started yet. It reads and writes nothing before it starts.

    Args:
        config: the settings of config.toml.
        environment: the settings in environment variables.
        store, authority: used instead of the configured store and issuer.
        options: other arguments of `AuthEngine`. They win over the configuration.
    """
    from authstate.engine.engine import AuthEngine

    said: EngineOptions = {"policy": config.policy, "api_key": environment.api_key, **options}
    if store is None:
        store = open_store(config, environment, said.get("clock"))
    if authority is None:
        authority = _authority(environment)
    return AuthEngine(store, authority, **said)


def _authority(environment: Environment) -> "TokenAuthority":
    from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority

    return HttpTokenAuthority(
        environment.issuer,
        environment.client_id,
        refresh_url=environment.refresh_url,
        revoke_url=environment.revoke_url,
        network=environment.network,
    )
