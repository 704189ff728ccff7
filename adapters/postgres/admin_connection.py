"""Connects for a command. If that fails, the reason of libpq is told: a person is setting the database up."""

from typing import TYPE_CHECKING, Any

from authstate.adapters.postgres import faults
from authstate.adapters.postgres.connect_failures import reason_of
from authstate.adapters.postgres.connection_target import connection_string, describe
from authstate.engine.model.errors import strip_tracebacks

if TYPE_CHECKING:
    import psycopg


@strip_tracebacks  # the URL may hold a password
async def connect(url: str) -> "psycopg.AsyncConnection[Any]":
    """Open a connection. It may be cancelled.

    Args:
        url: see `PostgresDatabase`.

    Raises:
        StoreUnavailable: it was not possible. The message has the reason.
        DatabaseUrlInvalid: the URL cannot be used.
    """
    import psycopg

    conninfo = connection_string(url)
    try:
        return await psycopg.AsyncConnection.connect(conninfo)
    except (psycopg.Error, OSError) as error:
        raise faults.command_not_connected(describe(url), await reason_of(error, conninfo)) from None
