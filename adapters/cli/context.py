"""The engine that the command line acts with: the one of $CODEX_HOME, as the environment and config.toml make it."""

import os
from collections.abc import Sequence

import msgspec

from authstate.adapters.assembly import open_engine, open_store
from authstate.adapters.config import Environment
from authstate.adapters.config.layers import Decision
from authstate.adapters.config.settings import read_config
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.stores.permissions import Finding, Inspected, belongs_to_another
from authstate.engine.engine import AuthEngine
from authstate.engine.ports import CredentialStore


class CommandContext(msgspec.Struct, frozen=True):
    """An engine that is not started yet, and what a person wants to know of it."""

    engine: AuthEngine
    store: CredentialStore
    environment: Environment
    """What the environment variables say. An `api_key` there is used whatever is stored."""
    decisions: list[Decision]
    """The settings that a file or `-c` decides."""

    @property
    def issuer(self) -> Issuer:
        """Who signs people in."""
        return Issuer.of(self.environment)

    @property
    def is_of_another_user(self) -> bool:
        """Whether the home belongs to another user than this one: who only looks changes nothing there."""
        return belongs_to_another(str(self.environment.home))

    @property
    def findings(self) -> list[Finding]:
        """What other users can do to the home."""
        return self.store.findings() if isinstance(self.store, Inspected) else []

    @property
    def place(self) -> str:
        """Where the credentials are stored, as far as is known by now."""
        return self.store.describe()


def open_context(
    overrides: Sequence[str], *, environment_key: bool = True, acts_with_key: bool = True
) -> CommandContext:
    """Read the environment and config.toml, with `-c` overrides on top, and make the engine.

    Args:
        overrides: the `-c KEY=VALUE` of the command line.
        environment_key: whether the engine acts with `CODEX_API_KEY` where it is set. `codex logout` does not.
        acts_with_key: whether one that cannot be used is an error; see `Environment.read`.

    Raises:
        ConfigError: one of them cannot be used. The message names it.
    """
    environment = Environment.read(os.environ, acts_with_key=acts_with_key)
    config, decisions = read_config(environment.home, overrides)
    store = open_store(config, environment)
    api_key = environment.api_key if environment_key else None
    engine = open_engine(config, environment, store=store, api_key=api_key)
    return CommandContext(engine=engine, store=store, environment=environment, decisions=decisions)
