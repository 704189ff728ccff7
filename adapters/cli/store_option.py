"""The options `--store` and `--keys`: a database instead of the home, for the broker and its leases."""

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from authstate.adapters.cli.exit_status import UsageError
from authstate.adapters.config import Config, ConfigError, Environment

if TYPE_CHECKING:
    from authstate.adapters.broker.broker import Broker
    from authstate.adapters.postgres.database import PostgresDatabase


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--store", metavar="URL", help="a database instead of the home: postgresql://USER@HOST/DATABASE, no password"
    )
    parser.add_argument(
        "--keys", metavar="FILE", help="with --store: the encryption keys; by default AUTHSTATE_DATABASE_KEYS"
    )


@asynccontextmanager
async def opened_broker(
    options: argparse.Namespace, config: Config, environment: Environment, connections: int = 2
) -> "AsyncIterator[Broker]":
    """Open the broker of the home, or of the database that `--store` names.

    Args:
        options: with `store` and `keys`.
        config, environment: what was configured.
        connections: the most to the database at once.

    Raises:
        UsageError, ConfigError: the options cannot be used, or the packages of the extra are missing.
        StoreUnavailable: the database cannot be used now.
        StoreUnreadable: an encryption key is wrong.
    """
    if options.store is None:
        from authstate.adapters.broker.broker import open_broker

        _ensure_no_keys_alone(options)
        async with open_broker(config, environment) as broker:
            yield broker
        return
    async with await _database(options, connections) as database:
        from authstate.adapters.database_broker.open_broker import open_database_broker

        async with open_database_broker(database, config, environment) as broker:
            yield broker


async def _database(options: argparse.Namespace, connections: int) -> "PostgresDatabase":
    """Return the database that `--store` names. Raises ConfigError: it cannot be used, or a package is missing."""
    try:
        from authstate.adapters.postgres.connection_target import DatabaseUrlInvalid
        from authstate.adapters.postgres.database import PostgresDatabase
        from authstate.adapters.postgres.keys import KEYS_VARIABLE, EncryptionKeys, KeyFile, KeyProvider, KeysInvalid

        try:
            provider: KeyProvider
            if options.keys is not None:
                provider = KeyFile(options.keys)
                await provider.load()
            elif os.environ.get(KEYS_VARIABLE, "").strip():
                provider = EncryptionKeys.parse(os.environ[KEYS_VARIABLE], KEYS_VARIABLE)
            else:
                raise ConfigError(f"--store needs encryption keys: name their file with --keys, or set {KEYS_VARIABLE}")
            return PostgresDatabase(options.store, provider, connections=connections)
        except (DatabaseUrlInvalid, KeysInvalid) as error:
            raise ConfigError(str(error)) from None
    except ImportError as missing:
        package = (missing.name or "psycopg").partition(".")[0]
        raise ConfigError(f"--store needs the package {package}: run `pip install 'authstate[postgres]'`") from None


def _ensure_no_keys_alone(options: argparse.Namespace) -> None:
    """Refuse `--keys` without `--store`. Raises UsageError."""
    if options.keys is not None and options.store is None:
        raise UsageError("--keys are the keys of a database: name it with --store")
