"""What went wrong with a database, for a person. A message of the server is not repeated: it may quote a row."""

from typing import Final

from authstate.engine.model.errors import StoreUnavailable

_REPAIRS: Final = {
    "42501": "this role may not do that there: grant it the rights that `authstate postgres init` prints",
    "3F000": "its tables are missing: run `authstate postgres init`",
    "42P01": "its tables are missing: run `authstate postgres init`",
    "42703": "its tables are of another release: run `authstate postgres migrate`",
    "42704": "there is no role of that name: create it with CREATE ROLE",
    "3D000": "there is no database of that name: create it, or name another one",
    "28000": "the server does not accept this role: check the user name, and pg_hba.conf on the server",
    "28P01": "the server refuses the password: check PGPASSFILE or the service file",
    "53100": "the disk of the server is full: free some space; nothing is lost",
    "53300": "the server accepts no more connections: raise max_connections, or put pgbouncer before it",
    "25006": "this server accepts no writes: it is a standby. Name the primary, or all servers, in the URL",
}
"""By the SQLSTATE: what to do. https://www.postgresql.org/docs/current/errcodes-appendix.html"""

_LONGEST_REASON: Final = 500  # characters

_REPEATED: Final = ("08", "57P01", "57P02", "57P03", "25006", "40001", "40P01")
"""The beginnings of the codes after which the same statement may succeed on another connection."""


def is_repeatable(error: Exception) -> bool:
    """Whether the same statement may succeed if it is sent again, on another connection."""
    import psycopg
    from psycopg_pool import PoolTimeout

    state: str | None = getattr(error, "sqlstate", None)
    if state is None:
        is_lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return is_lost and not isinstance(error, PoolTimeout)  # it tried to connect for all that time
    return state.startswith(_REPEATED)


def unavailable(place: str, error: Exception) -> StoreUnavailable:
    """Return the error for a statement that failed."""
    from psycopg_pool import PoolTimeout

    repair = _REPAIRS.get(getattr(error, "sqlstate", None) or "")
    if isinstance(error, PoolTimeout):
        repair = "no connection to it in time: check that the server runs, or allow more `connections`; then try again"
    elif isinstance(error, TimeoutError):
        repair = "it gave no answer in time: check the server and the network, then try again"
    elif repair is None:
        repair = f"it cannot be used just now ({_kind(error)}): check that the server runs, then try again"
    return StoreUnavailable(f"{place}: {repair}")


def not_connected(place: str, error: Exception) -> StoreUnavailable:
    """Return the error for a connection that failed. It repeats the reason of libpq, which knows no row yet."""
    reason = " ".join(str(error).split()).removeprefix("connection failed: ")[:_LONGEST_REASON]
    return StoreUnavailable(f"{place} cannot be used: {reason or _kind(error)}")


def not_administrated(place: str, error: Exception) -> StoreUnavailable:
    """Return the error for a command that changes tables or rights."""
    if getattr(error, "sqlstate", None) == "42501":
        return StoreUnavailable(f"{place}: this role may not do that: name one in the URL that owns the database")
    return unavailable(place, error)


def _kind(error: Exception) -> str:
    state = getattr(error, "sqlstate", None)
    return f"SQLSTATE {state}" if state else type(error).__name__
