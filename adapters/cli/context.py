"""Builds the engine of a command from the environment, config.toml and the `-c` overrides."""

import os
from collections.abc import Sequence

import msgspec

from authstate.adapters.assembly import build_engine, open_store
from authstate.adapters.config import Environment
from authstate.adapters.config.layers import EffectiveSetting
from authstate.adapters.config.settings import ACCOUNT_KEY, read_config
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.stores.permissions import Finding, Inspected, is_of_another_user
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT, AccountEntry, AccountList
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.engine import AuthEngine
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.ports import CredentialStore

SELECTED = "selected"
"""What chose an account that nothing names."""


class AccountChoice(msgspec.Struct, frozen=True, rename="camel"):
    """The account of the vault that a command uses."""

    id: str
    name: str
    chosen_by: str
    """`-c`, an environment variable, a path, or `SELECTED`."""

    @property
    def is_home(self) -> bool:
        """Whether it is the home's own account."""
        return self.id == HOME_ACCOUNT


class CommandContext(msgspec.Struct, frozen=True):
    """An engine that is not started yet, and where its configuration comes from."""

    engine: AuthEngine
    store: CredentialStore
    environment: Environment
    """The settings in environment variables. An `api_key` there wins over the stored login."""
    effective_settings: list[EffectiveSetting]
    """The settings that a file or `-c` sets."""

    @property
    def issuer(self) -> Issuer:
        """The issuer that people sign in to."""
        return Issuer.of(self.environment)

    @property
    def account(self) -> AccountChoice | None:
        """The account in use, and what chose it. None if the vault has no other than the home's own."""
        found = self._accounts_and_entry()
        if found is None or len(found[0].entries) == 1:
            return None
        named_by = (one.decided_by for one in self.effective_settings if one.key == ACCOUNT_KEY)
        return AccountChoice(found[1].id, found[1].name, next(named_by, None) or SELECTED)

    @property
    def account_entry(self) -> AccountEntry | None:
        """The account in use. None if there is no vault, or if its list of accounts cannot be read."""
        found = self._accounts_and_entry()
        return None if found is None else found[1]

    def _accounts_and_entry(self) -> tuple[AccountList, AccountEntry] | None:
        if not isinstance(self.store, VaultStore):
            return None
        try:
            accounts = self.store.vault.accounts()
        except StoreUnavailable:
            return None
        return accounts, accounts.named(self.store.account)

    @property
    def vault_fault(self) -> str | None:
        """Why the list of accounts cannot be read. None if it can."""
        try:
            if isinstance(self.store, VaultStore):
                self.store.vault.accounts()
        except StoreUnavailable as fault:
            return str(fault)
        return None

    @property
    def is_of_another_user(self) -> bool:
        """Whether another user owns the home folder. `status` then changes nothing in it."""
        return is_of_another_user(str(self.environment.home))

    @property
    def findings(self) -> list[Finding]:
        """How other users can read or change the stored login."""
        return self.store.findings() if isinstance(self.store, Inspected) else []

    @property
    def place(self) -> str:
        """Where the credentials are stored. With `auto`, this is certain only after the engine has started."""
        return self.store.describe()


def open_context(
    overrides: Sequence[str], *, environment_key: bool = True, acts_with_key: bool = True
) -> CommandContext:
    """Read the environment and config.toml, apply the `-c` overrides, and build the engine.

    Args:
        overrides: the `-c KEY=VALUE` of the command line.
        environment_key: whether the engine uses `CODEX_API_KEY` if it is set. `logout` does not.
        acts_with_key: whether an invalid `CODEX_API_KEY` is an error; see `Environment.read`.

    Raises:
        ConfigError: a setting is invalid. The message names it.
    """
    environment = Environment.read(os.environ, acts_with_key=acts_with_key)
    config, effective_settings = read_config(environment.home, overrides)
    store = open_store(config, environment)
    api_key = environment.api_key if environment_key else None
    engine = build_engine(config, environment, store=store, api_key=api_key)
    return CommandContext(engine=engine, store=store, environment=environment, effective_settings=effective_settings)
