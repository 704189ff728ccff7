"""Brings the tables of a database up to date.

Many machines may do it at once: one does it, and the others wait for it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from authstate.adapters.postgres import faults
from authstate.adapters.postgres.admin_connection import connect
from authstate.adapters.postgres.connection_target import describe
from authstate.adapters.postgres.schema import LOCK, MIGRATIONS, VERSION, Migration
from authstate.engine.model.errors import StoreUnavailable, strip_tracebacks

if TYPE_CHECKING:
    import psycopg

_OLDEST_SERVER: Final = 140_000
_CREATED: Final = (
    "CREATE SCHEMA IF NOT EXISTS authstate",
    """
    CREATE TABLE IF NOT EXISTS authstate.migrations (
        version integer PRIMARY KEY, title text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
    )
    """,
)
_OWNER: Final = """
    SELECT quote_ident(owner.rolname),
        owner.rolsuper OR owner.oid = ours.oid OR owner.oid = database.datdba
            OR (NOT ours.rolsuper AND pg_has_role(ours.oid, owner.oid, 'MEMBER'))
    FROM pg_namespace AS schema
    JOIN pg_roles AS owner ON owner.oid = schema.nspowner
    JOIN pg_roles AS ours ON ours.rolname = current_user
    JOIN pg_database AS database ON database.datname = current_database()
    WHERE schema.nspname = 'authstate'
"""
"""Who owns the schema, and whether that is us, a role of ours, the owner of the database or a superuser. A superuser
counts as a member of every role, so its memberships say nothing.
"""


@strip_tracebacks
async def migrate_database(url: str, migrations: Sequence[Migration] = MIGRATIONS) -> list[Migration]:
    """Apply the migrations that are missing, in one transaction. Returns them.

    Needs a role that may create tables. Cancelling it changes nothing.

    Args:
        url: see `PostgresDatabase`.
        migrations: all of them, the oldest first.

    Raises:
        StoreUnavailable: it was not possible; nothing was changed. Also: the server is older than PostgreSQL 14, the
            encoding of the database is not UTF8, a newer release of authstate has changed the tables, or the schema
            belongs to a role that has nothing to do with this one.
    """
    import psycopg

    place = describe(url)
    try:
        async with await connect(url) as connection:
            if connection.info.server_version < _OLDEST_SERVER:
                raise StoreUnavailable(f"{place} is older than PostgreSQL 14: use a newer server")
            if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
                raise StoreUnavailable(f"{place} has the encoding {encoding}: use one with ENCODING 'UTF8'")
            await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)  # what others did is seen
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            schema, table = _CREATED
            await connection.execute(schema.encode())
            await _ensure_ours(connection, place)
            await connection.execute(table.encode())
            cursor = await connection.execute("SELECT coalesce(max(version), 0) FROM authstate.migrations")
            (found,) = await cursor.fetchone() or (0,)
            if found > migrations[-1].version:
                raise StoreUnavailable(newer_message(place, found))
            missing = [migration for migration in migrations if migration.version > found]
            for migration in missing:
                for statement in migration.statements:
                    await connection.execute(statement.encode())
                values = (migration.version, migration.title)
                await connection.execute("INSERT INTO authstate.migrations (version, title) VALUES (%s, %s)", values)
            return missing
    except (psycopg.Error, OSError) as error:
        raise faults.not_administrated(place, error) from None


async def _ensure_ours(connection: "psycopg.AsyncConnection[Any]", place: str) -> None:
    """Refuse a schema that somebody else made first: their triggers and functions would run with our rights."""
    row = await (await connection.execute(_OWNER.encode())).fetchone()
    assert row is not None
    owner, is_trusted = row
    if not is_trusted:
        raise StoreUnavailable(
            f"{place}: the schema authstate belongs to the role {owner}, which is not yours: if you trust that role, "
            "name it in the URL; if not, look at what the schema holds, and remove it: DROP SCHEMA authstate CASCADE"
        )


def newer_message(place: str, found: int) -> str:
    """Return what to do about tables of a newer release."""
    return f"{place} has tables of a newer release (version {found}, this one knows {VERSION}): update authstate here"
