"""Puts an engine together from what the configuration and the environment say."""

from typing import TYPE_CHECKING, Any

from authstate.adapters.config import Config, Environment, StoreMode

if TYPE_CHECKING:
    from authstate.engine.core import AuthEngine
    from authstate.engine.ports import Clock, CredentialStore


def open_store(config: Config, environment: Environment, clock: "Clock | None" = None) -> "CredentialStore":
    """The store that the configuration names. Nothing is read, written or asked before its first use."""
    if config.store_mode is StoreMode.EPHEMERAL:
        from authstate.adapters.stores.memory import MemoryStore

        return MemoryStore()
    if config.store_mode is StoreMode.FILE:
        from authstate.adapters.stores.auth_json import AuthJsonStore

        return AuthJsonStore(environment.home, clock=clock)
    from authstate.adapters.stores.os_keyring import AutoStore, KeyringStore

    kind = KeyringStore if config.store_mode is StoreMode.KEYRING else AutoStore
    return kind(environment.home, clock=clock)


def open_engine(config: Config, environment: Environment, **engine_options: Any) -> "AuthEngine":
    """An engine that is not started yet. It reads and writes nothing before its start.

    Args:
        config: what config.toml says.
        environment: what the environment variables say.
        engine_options: what else `AuthEngine` takes (parent, clock, random, settings), and `store` or `authority` in
            place of the configured one.
    """
    from authstate.engine.core import AuthEngine

    options = {"policy": config.policy, "api_key": environment.api_key} | engine_options
    store = options.pop("store", None)
    authority = options.pop("authority", None)
    if store is None:
        store = open_store(config, environment, options.get("clock"))
    if authority is None:
        from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority

        authority = HttpTokenAuthority(
            environment.issuer,
            environment.client_id,
            refresh_url=environment.refresh_url,
            revoke_url=environment.revoke_url,
        )
    return AuthEngine(store, authority, **options)
