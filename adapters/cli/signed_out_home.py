"""Says, before a command runs under `authstate run`, that nobody is signed in: its codex would only fail later."""

import asyncio
from collections.abc import Sequence

from authstate.adapters.cli.exit_status import ExitStatus, print_error
from authstate.adapters.config import Config, Environment, StoreMode
from authstate.adapters.vault.vault import Vault
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.model.errors import AuthError


def say_if_signed_out(config: Config, environment: Environment, command: Sequence[str]) -> None:
    """Print one line on standard error if nobody is signed in to the account in use.

    Nothing is printed if the command signs in (`codex login`), if there is a login of any kind, or if `CODEX_API_KEY`
    takes its place. Nor if the store cannot be read: whoever uses it reports that.

    Args:
        config, environment: what was configured.
        command: what is run.
    """
    if "login" in command or environment.api_key is not None or config.store_mode is StoreMode.EPHEMERAL:
        return
    vault = Vault(environment.home, config.store_mode)
    try:
        store = VaultStore(vault, config.account)
        if asyncio.run(store.load()) is not None:
            return
        entry = vault.accounts().named(store.account)
    except AuthError:
        return
    print_error(entry.signed_out_message, ExitStatus.DONE)
