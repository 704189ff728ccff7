"""`authstate logout`: remove the stored login, and revoke its tokens."""

import os
import sys

from authstate.adapters.cli.command_home import describe_taken
from authstate.adapters.cli.context import open_context
from authstate.adapters.cli.exit_status import ExitStatus, print_error
from authstate.adapters.cli.not_revoked import NotRevoked
from authstate.adapters.config.unmanaged_logins import find_in_environment
from authstate.adapters.vault.account_home import AccountHome
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.lease_book import LeaseBook
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.ports import CredentialStore


async def sign_out(overrides: list[str]) -> ExitStatus:
    """Sign out, and say what is left: tokens that the issuer did not revoke, and an API key in the environment.

    Args:
        overrides: the `-c KEY=VALUE` of the command line.

    Raises:
        ConfigError: the configuration cannot be used.
        StoreUnavailable: the store cannot be used; nothing was changed.
    """
    context = open_context(overrides, environment_key=False, acts_with_key=False)
    not_revoked = NotRevoked(context.engine)
    home = _home_of_account(context.store)
    taken = await home.take_over() if home is not None else None
    async with context.engine as engine:
        await engine.log_out()
    if home is not None:
        await home.sign_out()
    choice = context.account
    of_account = "" if choice is None or choice.is_home else f" of the account {choice.name}"
    print(f"Signed out{of_account}. Nothing is stored in {context.place} any more.")
    if home is not None and choice is not None and (said := describe_taken(taken, home, choice.name)):
        print_error(said, ExitStatus.DONE)
    not_revoked.print()
    if context.environment.api_key is not None:
        print("CODEX_API_KEY is still set: unset it to be signed out everywhere.", file=sys.stderr)
    if other := find_in_environment(os.environ):
        print(f"codex still uses {other}: unset it to be signed out everywhere.", file=sys.stderr)
    return ExitStatus.DONE


def _home_of_account(store: CredentialStore) -> AccountHome | None:
    """Return what codex uses as its home with the account of a store. None for the home's own account."""
    if not isinstance(store, VaultStore) or store.account == HOME_ACCOUNT:
        return None
    return AccountHome(store.vault, LeaseBook(store.vault.folder), store.account)
