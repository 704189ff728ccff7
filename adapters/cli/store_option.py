"""The options that name a database instead of the home, for the broker and its leases."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypedDict

from authstate.adapters.cli.exit_status import UsageError
from authstate.adapters.config import Config, ConfigError, Environment

if TYPE_CHECKING:
    from authstate.adapters.broker.broker import Broker
    from authstate.adapters.postgres.database import PostgresDatabase


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add `--store` and `--keys`."""
    parser.add_argument(
        "--store", metavar="URL", help="a database instead of the home: postgresql://USER@HOST/DATABASE, no password"
    )
    parser.add_argument(
        "--keys", metavar="FILE", help="with --store: the encryption keys; by default AUTHSTATE_DATABASE_KEYS"
    )


def add_pooler(parser: argparse.ArgumentParser) -> None:
    """Add what is to be said of a pgbouncer between a broker and its database."""
    parser.add_argument(
        "--pool-mode",
        choices=("session", "transaction"),
        help="with --store: the pool_mode of a pgbouncer that it names; by default LISTEN is not used with any pooler",
    )
    parser.add_argument(
        "--direct-url", metavar="URL", help="with --store: reaches the server past pgbouncer, for LISTEN"
    )


@asynccontextmanager
async def opened_broker(
    options: argparse.Namespace, config: Config, environment: Environment, connections: int = 2
) -> "AsyncIterator[Broker]":
    """Open the broker of the home, or of the database that `--store` names.

    Args:
        options: with `store` and `keys`, and for a broker with `pool_mode` and `direct_url`.
        config, environment: what was configured.
        connections: the most to the database at once.

    Raises:
        UsageError, ConfigError: the options cannot be used, or the packages of the extra are missing.
        StoreUnavailable: the database cannot be used now.
        StoreUnreadable: an encryption key is wrong.
    """
    if options.store is None:
        from authstate.adapters.broker.broker import open_broker

        _ensure_no_database(options)
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
        from authstate.adapters.cli.database_keys import key_provider
        from authstate.adapters.postgres.connection_target import DatabaseUrlInvalid
        from authstate.adapters.postgres.database import PostgresDatabase

        keys = await key_provider(options.keys)
        try:
            return PostgresDatabase(options.store, keys, connections=connections, **notifications(options))
        except DatabaseUrlInvalid as error:
            raise ConfigError(str(error)) from None
    except ImportError as missing:
        package = (missing.name or "psycopg").partition(".")[0]
        raise ConfigError(f"--store needs the package {package}: run `pip install 'authstate[postgres]'`") from None


class Notifications(TypedDict):
    """See `PostgresConnections`."""

    listens: bool | None
    listen_url: str | None


def notifications(options: argparse.Namespace) -> Notifications:
    """Return how a broker hears of changes. A command that ends soon need not hear of any."""
    if not hasattr(options, "pool_mode"):
        return {"listens": False, "listen_url": None}
    if options.direct_url is not None:
        return {"listens": True, "listen_url": options.direct_url}
    return {"listens": None if options.pool_mode is None else options.pool_mode == "session", "listen_url": None}


def _ensure_no_database(options: argparse.Namespace) -> None:
    """Refuse what belongs to `--store` where that is missing. Raises UsageError."""
    if options.keys is not None:
        raise UsageError("--keys are the keys of a database: name it with --store")
    if getattr(options, "direct_url", None) is not None:
        raise UsageError("--direct-url is another way to the database of --store: name that as well")
