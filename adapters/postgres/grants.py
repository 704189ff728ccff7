"""The rights that a role needs to use a database, and no others.

Such a role reads and writes rows. It creates and drops nothing, deletes no account, and changes no check value of a
key.
"""

from typing import Final

from authstate.adapters.postgres import faults
from authstate.adapters.postgres.admin_connection import connect
from authstate.adapters.postgres.connection_target import describe
from authstate.adapters.postgres.schema import SCHEMA
from authstate.engine.model.errors import strip_tracebacks

RIGHTS: Final = {
    "accounts": "SELECT, INSERT, UPDATE",
    "refresh_claims": "SELECT, INSERT, UPDATE, DELETE",
    "leases": "SELECT, INSERT, UPDATE, DELETE",
    "encryption_keys": "SELECT, INSERT, UPDATE (key_id)",
    "migrations": "SELECT",
}
"""By the table: what processes do with it."""


def grant_statements(role: str) -> list[str]:
    """Return the SQL that gives a role what it needs.

    Args:
        role: its name, as the server has it. It is quoted.
    """
    quoted = '"' + role.replace('"', '""') + '"'
    return [
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {quoted}",
        *(f"GRANT {rights} ON {SCHEMA}.{table} TO {quoted}" for table, rights in RIGHTS.items()),
    ]


@strip_tracebacks  # the URL may hold a password
async def grant_access(url: str, role: str) -> None:
    """Give a role what it needs, in one transaction. It may be repeated. Cancelling it changes nothing.

    Args:
        url: see `PostgresDatabase`. Its user owns the tables.
        role: which role.

    Raises:
        StoreUnavailable: it was not possible; nothing was changed.
        DatabaseUrlInvalid: the URL cannot be used.
    """
    import psycopg

    try:
        async with await connect(url) as connection:
            for statement in grant_statements(role):
                await connection.execute(statement.encode())
    except (psycopg.Error, OSError) as error:
        raise faults.not_administrated(describe(url), error) from None
