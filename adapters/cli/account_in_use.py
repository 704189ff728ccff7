"""Which account of the vault `wrap` and `run` use. Imports the configuration only when that matters."""

import os
from collections.abc import Sequence


def uses_home_account(overrides: Sequence[str]) -> bool:
    """Return whether the home's own account is used, and not another one that is named or selected.

    Args:
        overrides: the `-c KEY=VALUE` of the command line, the last one winning.

    Raises:
        ConfigError: the configuration is invalid, or names an account that does not exist.
        StoreUnavailable: an account is named, and the list of accounts cannot be read.
    """
    from authstate.adapters.config import Environment, StoreMode, load_config
    from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
    from authstate.adapters.vault.vault import Vault
    from authstate.adapters.vault.vault_store import VaultStore

    environment = Environment.read(os.environ, acts_with_key=False)
    config = load_config(environment.home, overrides)
    if config.store_mode is StoreMode.EPHEMERAL:
        return True
    return VaultStore(Vault(environment.home, config.store_mode), config.account).account == HOME_ACCOUNT
