"""What a database holds, in numbers. It reads no login, so it needs no key."""

from collections.abc import Mapping

import msgspec

from authstate.adapters.postgres import admin_statements as statements
from authstate.adapters.postgres.admin_database import AdminDatabase


class DatabaseFigures(msgspec.Struct, frozen=True, rename="camel"):
    """What a database holds."""

    version: int
    """Of its tables."""
    accounts: int
    """Rows. An account that somebody signed out of keeps its row."""
    logins: Mapping[str, int]
    """How many logins each key encrypts, by the id of the key."""
    leases: Mapping[str, int]
    """How many leases each key encrypts. One that is over is removed after a month."""
    held: int
    """Rows that a process may change just now, and no other."""
    under_way: int
    """Refreshes that wait for the issuer."""
    in_doubt: int
    """Refresh tokens of which nobody knows whether they were used."""


async def read_figures(database: AdminDatabase) -> DatabaseFigures:
    """Count. It reads the index of every table once, and takes seconds for a million rows. Raises StoreUnavailable."""
    version = await database.fetch(statements.VERSION_OF_TABLES, {}) or {}
    accounts = await database.fetch(statements.COUNT_ACCOUNTS, {}) or {}
    logins = await database.fetch(statements.COUNT_LOGINS, {}) or {}
    leases = await database.fetch(statements.COUNT_LEASES, {}) or {}
    claims = await database.fetch(statements.COUNT_CLAIMS, {}) or {}
    return DatabaseFigures(
        **version,
        **accounts,
        logins=dict(zip(logins["keys"], logins["logins"], strict=True)),
        leases=dict(zip(leases["keys"], leases["leases"], strict=True)),
        **claims,
    )
