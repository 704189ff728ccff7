"""The home of a command under `authstate run`, if it acts as another account than the home's own.

The environment of the command names that home and its account. An authstate command in it works with the vault of the
home all the same, as this account, because CODEX_HOME tells it where that is (adapters/config/home.py).
"""

import asyncio
import os
from collections.abc import Mapping

import msgspec

from authstate.adapters.config import Config, Environment, StoreMode
from authstate.adapters.config.home import ConfigError, account_of_home
from authstate.adapters.config.settings import ACCOUNT_VARIABLE
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.vault import Vault
from authstate.engine.model.errors import AuthError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from authstate.adapters.vault.account_home import AccountHome
    from authstate.adapters.vault.accounts_file import AccountEntry


class CommandHome(msgspec.Struct, frozen=True):
    """Where a command finds its login."""

    environment: Mapping[str, str]
    """The variables that name it."""
    home: "AccountHome | None" = None
    """None: it is the home itself."""
    name: str = ""
    """The nickname of the account."""

    def take_over(self) -> str | None:
        """Move a login that codex has stored in the home of an account into the vault, once the command has ended.

        Returns:
            What a person should know: which account has it. None if that is the account itself, or there is no login.
        """
        if self.home is None:
            return None
        try:
            taken = asyncio.run(self.home.take_over())
        except (AuthError, ConfigError) as error:
            return f"codex stored a login in {self.home.folder}, which is not in the vault yet: {error}"
        return describe_taken(taken, self.home, self.name)


def command_home(config: Config, environment: Environment) -> CommandHome | None:
    """Return the home of a command. None if its environment names the right one already. It is made if it is missing.

    Raises:
        ConfigError: there is no such account.
        AuthError: nobody is signed in to it, or its home cannot be written.
    """
    is_nested = account_of_home(os.environ) is not None
    if config.store_mode is StoreMode.EPHEMERAL or not (config.account or Vault.exists_in(environment.home)):
        return None
    from authstate.adapters.cli.exit_status import ExitStatus, print_error
    from authstate.adapters.vault.account_home import AccountHome
    from authstate.adapters.vault.lease_book import LeaseBook
    from authstate.adapters.vault.vault_store import VaultStore

    vault = Vault(environment.home, config.store_mode)
    account = VaultStore(vault, config.account).account
    if account == HOME_ACCOUNT:
        variables = {"CODEX_HOME": str(environment.home), ACCOUNT_VARIABLE: HOME_ACCOUNT}
        return CommandHome(variables) if is_nested else None
    home = AccountHome(vault, LeaseBook(vault.folder), account)
    name = vault.accounts().named(account).name
    prepared = asyncio.run(home.prepare())
    if said := describe_taken(prepared.taken_over_by, home, name):
        print_error(said, ExitStatus.DONE)
    return CommandHome({"CODEX_HOME": prepared.folder, ACCOUNT_VARIABLE: account}, home, name)


def describe_taken(taken: "AccountEntry | None", home: "AccountHome", name: str) -> str | None:
    """Return what a person should know of a login that was moved into the vault. None if it needs no words."""
    if taken is None or taken.id == home.account:
        return None
    return (
        f"codex signed in as somebody else than the account {name}: that login is the account {taken.name} now. To use "
        f"it: `authstate run --account {taken.name} -- COMMAND`"
    )
