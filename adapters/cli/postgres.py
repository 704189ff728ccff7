"""`authstate postgres`: manages a database that keeps logins for many machines.

`import` is in postgres_import.py, and `forget` in postgres_forget.py.
"""

import argparse
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from authstate.adapters.cli.database_keys import key_provider
from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error, printable
from authstate.adapters.config import ConfigError
from authstate.adapters.postgres.admin_database import AdminDatabase
from authstate.adapters.postgres.connection_target import DatabaseUrlInvalid, connection_string, describe
from authstate.adapters.postgres.figures import DatabaseFigures, read_figures
from authstate.adapters.postgres.grants import grant_access, grant_statements
from authstate.adapters.postgres.key_list import add_to_file
from authstate.adapters.postgres.keys import KeysInvalid, KeyVariable, new_key
from authstate.adapters.postgres.migrate import migrate_database
from authstate.adapters.postgres.rotation import Rotation, rotate_keys
from authstate.adapters.postgres.schema import VERSION

URL_VARIABLE: Final = "AUTHSTATE_DATABASE_URL"
"""The environment variable with the URL of the database."""
_SHOWN: Final = 20  # names in a message


def database_url(options: argparse.Namespace) -> str:
    """Return the URL of the database.

    Raises:
        UsageError: nothing names one.
        ConfigError: it cannot be used, or the packages of the extra are missing.
    """
    url: str = options.database or os.environ.get(URL_VARIABLE, "")
    if not url.strip():
        raise UsageError(f"nothing names a database: --database postgresql://USER@HOST/DATABASE, or {URL_VARIABLE}")
    try:
        connection_string(url)
    except DatabaseUrlInvalid as error:
        raise ConfigError(str(error)) from None
    except ImportError:
        raise ConfigError(
            "`authstate postgres` needs the packages of an extra: run `pip install 'authstate[postgres]'`"
        ) from None
    return url


@asynccontextmanager
async def open_database(options: argparse.Namespace) -> AsyncIterator[AdminDatabase]:
    """Open the database with the keys of the command line. Raises UsageError, ConfigError."""
    url = database_url(options)
    keys = await key_provider(options.keys) if hasattr(options, "keys") else KeyVariable()
    async with AdminDatabase(url, keys) as database:
        yield database


async def init(options: argparse.Namespace) -> ExitStatus:
    """Create the tables. Show the rights that processes need, or give them to a role. Raises StoreUnavailable."""
    await migrate(options)
    if not options.grant_to:
        print("The role of your processes needs these rights (--grant-to ROLE gives them):")
        for statement in grant_statements("ROLE"):
            print(f"  {statement};")
    return ExitStatus.DONE


async def migrate(options: argparse.Namespace) -> ExitStatus:
    """Bring the tables up to date. Raises StoreUnavailable."""
    url = database_url(options)
    place = printable(describe(url))
    applied = await migrate_database(url)
    for migration in applied:
        print(f"Applied migration {migration.version}: {migration.title}.")
    print(f"{place} has tables of version {VERSION}.")
    if options.grant_to:
        await grant_access(url, options.grant_to)
        print(printable(f"The role {options.grant_to} may use them."))
    return ExitStatus.DONE


async def status(options: argparse.Namespace) -> ExitStatus:
    """Print what the database holds. Raises StoreUnavailable."""
    async with open_database(options) as database:
        figures = await read_figures(database)
        place = database.place
    if options.json:
        print(json.dumps({"database": place, "newestVersion": VERSION, **msgspec.to_builtins(figures)}, indent=2))
    else:
        print("\n".join(printable(line) for line in _lines(place, figures)))
    return ExitStatus.DONE


def _lines(place: str, figures: DatabaseFigures) -> list[str]:
    is_old, is_new = figures.version < VERSION, figures.version > VERSION
    advice = ": run `authstate postgres migrate`" if is_old else ": update authstate here" if is_new else ""
    return [
        place,
        f"  tables        version {figures.version}{advice}",
        f"  accounts      {figures.accounts}",
        f"  logins        {_by_key(figures.logins)}",
        f"  leases        {_by_key(figures.leases)}",
        f"  held now      {figures.held}",
        f"  refreshes     {figures.under_way} under way, {figures.in_doubt} in doubt",
    ]


def _by_key(counts: Mapping[str, int]) -> str:
    by_key = ", ".join(f"{count} by {key_id}" for key_id, count in counts.items())
    return f"{sum(counts.values())}{f', encrypted: {by_key}' if by_key else ''}"


def make_key(options: argparse.Namespace) -> ExitStatus:
    """Make a key: at the end of a file, or on standard output.

    Raises:
        UsageError: standard output is a terminal.
        ConfigError: the file is no list of keys.
        OSError: the file cannot be written.
    """
    key_id, encoded = new_key()
    if options.keys is None:
        if sys.stdout.isatty():
            raise UsageError("a key is not printed to a terminal: name a file with --keys, or pipe it into a program")
        print(f"{key_id}={encoded}")
        return ExitStatus.DONE
    try:
        keys = add_to_file(options.keys, key_id, encoded)
    except KeysInvalid as error:
        raise ConfigError(str(error)) from None
    print(printable(f"Added the key {key_id} to {options.keys}."))
    if keys.current == key_id:
        print("It encrypts from now on. Give the file to every machine, and keep a copy: without it, logins are lost.")
    else:
        print(f"It decrypts only, and {keys.current} encrypts. Give the file to every machine, then move the new line")
        print("to the top, give the file to every machine again, and run `authstate postgres rotate-key`.")
    return ExitStatus.DONE


async def rotate_key(options: argparse.Namespace) -> ExitStatus:
    """Encrypt everything with the first key. Raises StoreUnavailable."""
    async with open_database(options) as database:
        rotation = await rotate_keys(database, _show_progress)
    print(f"Encrypted {_done(rotation)} with the key {rotation.key_id}.")
    for message in _not_rotated(rotation):
        print_error(message, ExitStatus.NOT_SIGNED_IN)
    if rotation.left:
        print(f"Keep {_listed(rotation.left)}: logins or leases need them.", file=sys.stderr)
        return ExitStatus.NOT_SIGNED_IN
    print("No other key encrypts a login or a lease. Backups of the database still need the old keys.")
    return ExitStatus.DONE


def _show_progress(rotation: Rotation) -> None:
    print(f"encrypted with {rotation.key_id}: {_done(rotation)}", file=sys.stderr)


def _done(rotation: Rotation) -> str:
    return f"{rotation.logins.done} logins and {rotation.leases.done} leases"


def _not_rotated(rotation: Rotation) -> list[str]:
    """Why another key still encrypts something, for a person."""
    messages = list(rotation.unreadable.values())
    for name, damaged in (("logins", rotation.logins.damaged), ("leases", rotation.leases.damaged)):
        if damaged:
            messages.append(
                f"the {name} of these accounts were changed or truncated: {_listed(damaged)}. Restore their rows from "
                "a backup, or remove them with `authstate postgres forget ACCOUNT`"
            )
    if rotation.left and not messages:
        messages.append(
            f"processes still encrypt with {_listed(rotation.left)}: give them the new list of keys, restart them, "
            "then repeat this"
        )
    return messages


def _listed(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
