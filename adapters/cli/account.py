"""`authstate account list | use | rename | remove`: the accounts of this home's vault. `add` is in account_add.py."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from authstate.adapters.assembly import build_engine
from authstate.adapters.broker.shown_members import account_members
from authstate.adapters.cli.command_home import describe_taken
from authstate.adapters.cli.exit_status import ExitStatus, print_error, printable
from authstate.adapters.cli.not_revoked import NotRevoked
from authstate.adapters.config import Config, ConfigError, Environment, StoreMode
from authstate.adapters.config.settings import ACCOUNT_KEY, read_config
from authstate.adapters.logs.redaction import redact_text
from authstate.adapters.vault.account_home import AccountHome
from authstate.adapters.vault.account_states import AccountState, StoredAccount, read_account, read_accounts
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault import Vault
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.model.events import AuthMode

_STATES = {
    AccountState.CHATGPT: "signed in",
    AccountState.API_KEY: "signed in",
    AccountState.SIGNED_OUT: "not signed in",
    AccountState.DEAD: "can no longer be refreshed: sign in again",
    AccountState.OTHER_LOGIN: "another kind of login",
    AccountState.UNREADABLE: "cannot be read",
}


class AccountCommand:
    """What the commands of `account` share: the vault, and the configuration.

    Args:
        overrides: the `-c KEY=VALUE` of the command line.

    Raises:
        ConfigError: the configuration cannot be used, or keeps the login in memory, where there is no vault.
    """

    def __init__(self, overrides: Sequence[str]) -> None:
        self.environment: Environment = Environment.read(os.environ, acts_with_key=False)
        self.config: Config
        self.config, settings = read_config(self.environment.home, overrides)
        if self.config.store_mode is StoreMode.EPHEMERAL:
            raise ConfigError(
                'cli_auth_credentials_store = "ephemeral" keeps one login in memory, so there are no accounts: use '
                "another store"
            )
        self.vault: Vault = Vault(self.environment.home, self.config.store_mode)
        self.named_by: str | None = next((one.decided_by for one in settings if one.key == ACCOUNT_KEY), None)
        """What names the account for this process and those like it. None if the selected one is used."""

    def store_of(self, account: str) -> VaultStore:
        """Return the store of one account, whatever is selected. Raises ConfigError, StoreUnavailable."""
        return VaultStore(self.vault, account)

    def warn_of_named(self) -> None:
        """Say on standard error if another account than the selected one is used here."""
        name = self.config.account
        if name is None:
            return
        found = self.vault.accounts().find(name)
        what = "which the vault does not have" if found is None else "which wins here over the selected account"
        print(printable(f"{self.named_by} names the account {redact_text(name)}, {what}."), file=sys.stderr)


async def list_accounts(options: argparse.Namespace) -> ExitStatus:
    """Print every account, and what is stored in it. It refreshes nothing.

    Raises:
        ConfigError: the configuration cannot be used.
        StoreUnavailable: the list of accounts cannot be read.
    """
    command = AccountCommand(options.overrides)
    found = await read_accounts(command.vault)
    if options.json:
        print(json.dumps({"accounts": [members(one) for one in found], "namedBy": command.named_by}, indent=2))
        return ExitStatus.DONE
    width = max(len(one.entry.name) for one in found)
    for one in found:
        print(printable(f"{'*' if one.is_selected else ' '} {one.entry.name:{width}}  {described(one)}"))
        for name, value in _details(one):
            print(printable(f"  {'':{width}}  {name:13} {value}"))
    command.warn_of_named()
    return ExitStatus.DONE


async def use_account(options: argparse.Namespace) -> ExitStatus:
    """Select an account. No token moves. Raises ConfigError, StoreUnavailable."""
    command = AccountCommand(options.overrides)
    entry = command.vault.accounts().named(options.name)
    command.vault.select(entry.id)
    found = await read_account(command.vault, entry.id)
    if options.json:
        print(json.dumps({"account": members(found), "namedBy": command.named_by}, indent=2))
    else:
        print(printable(f"Using {entry.name}: {described(found)}."))
    if not found.is_signed_in:
        print_error(f"{found.store_fault or _STATES[found.state]}: `authstate login` signs in to {entry.name}", 0)
    command.warn_of_named()
    return ExitStatus.DONE


async def rename_account(options: argparse.Namespace) -> ExitStatus:
    """Give an account another nickname. Raises ConfigError, StoreUnavailable."""
    command = AccountCommand(options.overrides)
    entry = command.vault.accounts().named(options.name)
    command.vault.rename(entry.id, options.new_name)
    if options.json:
        print(json.dumps({"account": members(await read_account(command.vault, entry.id))}, indent=2))
    else:
        print(f"Renamed {entry.name} to {options.new_name}.")
    return ExitStatus.DONE


async def remove_account(options: argparse.Namespace) -> ExitStatus:
    """Sign out of an account, end its leases and remove its folder. The home's own account stays in the list.

    Raises:
        ConfigError: there is no such account.
        StoreUnavailable: it could not be signed out, or the list could not be written. What was done stays done, and
            the command may be repeated.
    """
    command = AccountCommand(options.overrides)
    entry = command.vault.accounts().named(options.name)
    is_home = entry.id == HOME_ACCOUNT
    leases = LeaseBook(command.vault.folder)
    home = AccountHome(command.vault, leases, entry.id)
    taken = None if is_home else await home.take_over()
    if not is_home and entry.id == command.vault.accounts().selected:
        # Windows that follow the selection change over before the account signs out.
        command.vault.select(HOME_ACCOUNT)
    store = command.store_of(entry.id)
    engine = build_engine(command.config, command.environment, store=store, api_key=None)
    not_revoked = NotRevoked(engine)
    async with engine:
        await engine.log_out()
    leases.end_all_of(entry.id)
    kept: list[str] = []
    if not is_home:
        kept = await home.remove()
        await command.vault.remove(entry.id)
    if options.json:
        print(json.dumps({"name": entry.name, "id": entry.id, "isRemoved": not is_home}, indent=2))
    elif is_home:
        print(f"Signed out of {entry.name}. It is the home's own account, and stays in the list.")
    else:
        print(f"Signed out of {entry.name}, and removed it.")
    if said := describe_taken(taken, home, entry.name):
        print_error(said, ExitStatus.DONE)
    for path in kept:
        print_error(f"{path} is still there: the home has another one of this name", ExitStatus.DONE)
    not_revoked.print()
    return ExitStatus.DONE


def described(found: StoredAccount) -> str:
    """Return who is signed in to an account, as the end of a sentence."""
    if not found.is_signed_in:
        return _STATES[found.state]
    if found.account is not None:
        return str(found.account)
    return "an API key" if found.auth_mode is AuthMode.API_KEY else "a personal access token"


def members(found: StoredAccount) -> dict[str, Any]:
    """Return an account as a program reads it: as in the API of the broker, with times as text."""
    shown = account_members(found)
    return {**shown, "accessTokenExpiresAt": None if found.expires_at is None else _instant(found.expires_at)}


def _details(found: StoredAccount) -> list[tuple[str, str]]:
    details = []
    if found.account is not None:
        if not found.is_signed_in:
            details.append(("email", str(found.account)))
        details.append(("plan", str(found.account.plan_type)))
    if found.auth_mode is AuthMode.CHATGPT and found.expires_at is not None:
        word = "expires" if found.expires_at > time.time() else "expired"
        details.append(("access token", f"{word} at {_instant(found.expires_at)}"))
    if found.store_fault is not None:
        details.append(("reason", found.store_fault))
    details += [("store", found.store), ("id", found.entry.id)]
    return details


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
