"""`authstate postgres import`: moves the logins of a home into a database."""

import argparse
import os

from authstate.adapters.cli.exit_status import ExitStatus, print_error, printable
from authstate.adapters.cli.postgres import open_database
from authstate.adapters.cli.postgres_forget import account_store
from authstate.adapters.config import ConfigError, Environment, StoreMode
from authstate.adapters.config.settings import ACCOUNT_VARIABLE, read_config
from authstate.adapters.postgres.move_login import Move, move_login
from authstate.adapters.postgres.store import PostgresStore
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT, AccountEntry
from authstate.adapters.vault.vault import Vault
from authstate.engine.model.errors import StoreUnavailable


async def import_home(options: argparse.Namespace) -> ExitStatus:
    """Move the login of a home and those of its vault, or only that of the account that is named.

    Returns:
        DONE if all of them were moved. Otherwise NOT_SIGNED_IN: nobody is signed in, or a login could not be moved.
        That one is where it was, and the others were moved.

    Raises:
        UsageError: an id has a wrong form.
        ConfigError: the home or its configuration cannot be used, or it has no such account.
        StoreUnavailable: the list of accounts cannot be read.
    """
    vault, ids = _accounts(options)
    async with open_database(options) as database:
        moves = [(entry, account_store(database, account)) for entry, account in ids]
        results = [await _move(vault, entry, target) for entry, target in moves]
    if all(result is Move.NOTHING for result in results):
        return ExitStatus(print_error(f"nobody is signed in in {vault.home}: nothing was moved", 1))
    return ExitStatus.NOT_SIGNED_IN if None in results else ExitStatus.DONE


def _accounts(options: argparse.Namespace) -> tuple[Vault, list[tuple[AccountEntry, str]]]:
    """Return the vault of the home, and the accounts to move, each with its id in the database.

    Raises ConfigError, StoreUnavailable.
    """
    environ = {name: value for name, value in os.environ.items() if name != ACCOUNT_VARIABLE}
    if not os.path.isdir(options.home):
        raise ConfigError(f"there is no such folder: {options.home}: name the home whose logins are to be moved")
    environ["CODEX_HOME"] = os.path.abspath(options.home)
    environment = Environment.read(environ, acts_with_key=False)
    config, _ = read_config(environment.home, options.overrides, environ=environ)
    if config.store_mode is StoreMode.EPHEMERAL:
        raise ConfigError('cli_auth_credentials_store = "ephemeral" keeps the login in memory: nothing can be moved')
    vault = Vault(environment.home, config.store_mode)
    accounts = vault.accounts()
    if config.account is not None:
        return vault, [(accounts.named(config.account), options.new_id)]
    ids = [options.new_id if one.id == HOME_ACCOUNT else f"{options.new_id}/{one.id}" for one in accounts.entries]
    return vault, list(zip(accounts.entries, ids, strict=True))


async def _move(vault: Vault, entry: AccountEntry, target: PostgresStore) -> Move | None:
    """Move one login, and say so. None if it could not be moved."""
    try:
        result = await move_login(vault.store(entry.id), target)
    except StoreUnavailable as error:
        print_error(str(error), ExitStatus.NOT_SIGNED_IN)
        return None
    if result is Move.MOVED:
        print(printable(f"Moved the login of {entry.name} to {target.describe()}."))
    elif result is Move.FINISHED:
        print(printable(f"{target.describe()} had the login of {entry.name} already. Removed the old copy."))
    return result
