"""`authstate account add`: signs in to a new account of the vault.

The sign-in keeps its tokens in memory. Only when it has succeeded is it known whose they are. Then they are stored,
once: in the account that this person has already, or in a new one.
"""

import argparse
import asyncio
import json
import sys
from contextlib import redirect_stdout, suppress

from authstate.adapters.assembly import build_engine
from authstate.adapters.cli.account import AccountCommand, described, members
from authstate.adapters.cli.event_loop import run_cancellable
from authstate.adapters.cli.exit_status import ExitStatus, print_error, printable
from authstate.adapters.cli.login import LoginFlow, method_of, report_failure, run_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.stores.memory import MemoryStore
from authstate.adapters.vault.account_states import find_login, read_account
from authstate.adapters.vault.accounts_file import AccountEntry
from authstate.adapters.vault.codex_login import wished_name
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens, ExternalTokens, StaticCredentials
from authstate.engine.model.errors import AuthError, TokenRefused


def add(options: argparse.Namespace) -> int:
    """Run `account add`. What can be checked is checked before anybody signs in or types a key.

    Raises:
        ConfigError: the configuration is invalid, or the nickname is invalid or taken.
        AuthError: the login could not be started or stored, or the vault cannot be written.
    """
    command = AccountCommand(options.overrides)
    command.vault.check_addable(options.name)
    return run_cancellable(add_account(command, options.name, method_of(options), as_json=options.json))


async def add_account(
    command: AccountCommand, name: str | None, method: LoginFlow | StaticCredentials, *, as_json: bool
) -> int:
    """Sign in to a new account, or anew to the account that this person has in the vault already.

    Args:
        command: the vault, and the configuration.
        name: the nickname. By default it comes from the email.
        method: how to sign in, or the key.
        as_json: print one JSON object on standard output. What the person reads goes to standard error.

    Returns:
        DONE, or what `login` returns after a sign-in that did not succeed.

    Raises:
        ConfigError: the nickname is taken by now.
        AuthError: the login could not be started or stored.

    Whatever fails leaves no account behind, and revokes tokens that came. So does cancelling it before they are stored.
    """
    memory = build_engine(command.config, command.environment, store=MemoryStore(), api_key=None, keeps_journal=False)
    async with memory as engine:
        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            status = await _sign_in(command, engine, method)
        credentials = engine.session.credentials
        if status != ExitStatus.DONE or credentials is None or isinstance(credentials, ExternalTokens):
            return status
        try:
            entry, is_new = await _store(command, name, credentials)
        except BaseException:
            await engine.log_out()  # revokes what nobody can use any more
            raise
    await _report(command, entry, name, is_new=is_new, as_json=as_json)
    return ExitStatus.DONE


async def _sign_in(command: AccountCommand, engine: AuthEngine, method: LoginFlow | StaticCredentials) -> int:
    """Sign in in memory. Returns DONE, or why not."""
    if not isinstance(method, LoginFlow):
        try:
            await engine.use_api_key(method)
        except TokenRefused as error:
            return print_error(str(error), ExitStatus.LOGIN_REFUSED)
        return ExitStatus.DONE
    try:
        attempt = await run_login(Issuer.of(command.environment), engine, method)
    except asyncio.CancelledError:
        print_error("the sign-in was cancelled; no account was added", ExitStatus.INTERRUPTED)
        raise
    return ExitStatus.DONE if attempt.state == "succeeded" else report_failure(attempt)


async def _store(
    command: AccountCommand, name: str | None, credentials: StaticCredentials | ChatgptTokens
) -> tuple[AccountEntry, bool]:
    """Store the login. Returns its account, and whether that is new. Whatever it raises, the login is not stored."""
    vault = command.vault
    entry = await find_login(vault, credentials)
    is_new = entry is None
    if entry is None:
        entry = vault.add(name, wish=wished_name(credentials))
    try:
        await _sign_in_to(command, entry, credentials)
    except BaseException:
        if is_new:
            with suppress(AuthError):
                await vault.remove(entry.id)
        raise
    return entry, is_new


async def _sign_in_to(
    command: AccountCommand, entry: AccountEntry, credentials: StaticCredentials | ChatgptTokens
) -> None:
    """Store a login in an account, and revoke the one that it replaces.

    Cancelled when the login is stored already, it returns: the tokens must not be revoked.
    """
    store = command.store_of(entry.id)
    engine = build_engine(command.config, command.environment, store=store, api_key=None)
    async with engine:
        try:
            if not isinstance(credentials, ChatgptTokens):
                await engine.use_api_key(credentials)
            else:
                await engine.complete_chatgpt_login(credentials)
        except asyncio.CancelledError:
            if engine.session.credentials is not credentials:
                raise


async def _report(
    command: AccountCommand, entry: AccountEntry, name: str | None, *, is_new: bool, as_json: bool
) -> None:
    found = await read_account(command.vault, entry.id)
    if as_json:
        print(json.dumps({"account": members(found), "isNew": is_new}, indent=2))
        return
    print(printable(f"{'Added' if is_new else 'Signed in again to'} {entry.name}: {described(found)}."))
    if not is_new:
        print(f"The vault had this account already, as {entry.name}: it has the new login now.")
    if not is_new and name not in (None, entry.name):
        print(f"To give it the other name: authstate account rename {entry.name} {name}")
    if not found.is_selected:
        print(f"To use it: authstate account use {entry.name}, or --account {entry.name} with any command.")
