"""What went wrong with a database, for a person. A message of the server is not repeated: it may quote a row."""

from collections.abc import Mapping
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
    "25006": (
        "this server accepts no writes: it is a standby, so name the primary, or all servers, in the URL; or "
        "default_transaction_read_only is on, so turn that off for this role, the database or the server"
    ),
}
"""By the SQLSTATE: what to do. https://www.postgresql.org/docs/current/errcodes-appendix.html"""

_CREDENTIALS: Final = "the server refuses the password: check PGPASSFILE or the service file"
_NOT_ALLOWED: Final = (
    "the server does not accept this role, from this machine, with or without TLS: check the user name, sslmode, and "
    "pg_hba.conf on the server"
)
_NO_SERVER: Final = "no server answers there: check that it runs, and the host and port"
_TLS: Final = "TLS with the server fails: check sslmode, sslrootcert, and the certificate of the server"

SESSION_IS_READ_ONLY: Final = "session is read-only"
"""What libpq says of a standby, and of a server where `READ_ONLY_BY_SETTING` holds."""
READ_ONLY_BY_SETTING: Final = "default_transaction_read_only is on"

_NEEDS_REPAIR: Final = {
    READ_ONLY_BY_SETTING: (
        "it accepts no writes, because default_transaction_read_only is on: turn it off where it is set, for this role "
        "(ALTER ROLE ... SET default_transaction_read_only = off), the database or the server"
    ),
    "password authentication failed": _CREDENTIALS,
    "no password supplied": "the server wants a password: put it into the file that PGPASSFILE names (mode 0600)",
    "no pg_hba.conf entry": _NOT_ALLOWED,
    "pg_hba.conf rejects": _NOT_ALLOWED,
    "is not permitted to log in": "this role may not log in: ALTER ROLE ... LOGIN, or name another user",
    "permission denied for database": "this role may not connect to it: GRANT CONNECT ON DATABASE",
    "definition of service": "there is no such service in the service file: check PGSERVICE and PGSERVICEFILE",
    "does not support SSL": "the server does not support TLS: turn it on there, or change sslmode",
    "certificate verify failed": _TLS,
    "does not match host name": _TLS,
    "root certificate file": _TLS,
    "invalid sslmode value": _TLS,
}
"""What libpq or the server says of a connection that fails, in part, and what to do. It stays so until that is done."""

_PASSES: Final = {
    "Connection refused": _NO_SERVER,
    "No such file or directory": _NO_SERVER,
    "failed to resolve host": "the name of its host is not known: check the host in the URL, and DNS",
    "timeout expired": "the server does not answer: check the host, the port and the network",
    SESSION_IS_READ_ONLY: _REPAIRS["25006"],
    "too many": _REPAIRS["53300"],
    "remaining connection slots": _REPAIRS["53300"],
    "starting up": "the server is starting: try again in some seconds",
}
"""The same for what may pass by itself, or while a server is replaced."""

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
        repair = "no connection to it in time: allow more `connections`, or check that the server runs; then try again"
    elif isinstance(error, TimeoutError):
        repair = "it gave no answer in time: check the server and the network, then try again"
    elif repair is None:
        repair = f"it cannot be used just now ({_kind(error)}): check that the server runs, then try again"
    return StoreUnavailable(f"{place}: {repair}")


def needs_repair(error: Exception) -> bool:
    """Whether a connection failed for a reason that stays until a person does something."""
    return _advice(error, _NEEDS_REPAIR) is not None


def not_connected(place: str, error: Exception) -> StoreUnavailable:
    """Return the error for a connection that failed in a process, which may tell it to its own clients."""
    advice = _advice(error, _NEEDS_REPAIR) or _advice(error, _PASSES) or "`authstate postgres status` tells the reason"
    return StoreUnavailable(f"{place}: no connection: {advice}")


def command_not_connected(place: str, error: Exception) -> StoreUnavailable:
    """Return the error for a connection that failed in a command. The reason of libpq is added: it quotes no row."""
    reason = " ".join(str(error).split()).removeprefix("connection failed: ")[:_LONGEST_REASON]
    return StoreUnavailable(f"{not_connected(place, error)} (libpq says: {reason or _kind(error)})")


def _advice(error: Exception, known: Mapping[str, str]) -> str | None:
    """Return what to do. libpq gives no SQLSTATE for a connection that fails, so its words are looked at."""
    reason = str(error)
    if "does not exist" in reason and known is _NEEDS_REPAIR:
        return _REPAIRS["3D000"] if "database" in reason else _REPAIRS["28000"]
    return next((advice for words, advice in known.items() if words in reason), None)


def not_administrated(place: str, error: Exception) -> StoreUnavailable:
    """Return the error for a command that changes tables or rights."""
    if getattr(error, "sqlstate", None) == "42501":
        return StoreUnavailable(f"{place}: this role may not do that: name one in the URL that owns the database")
    return unavailable(place, error)


def _kind(error: Exception) -> str:
    state = getattr(error, "sqlstate", None)
    return f"SQLSTATE {state}" if state else type(error).__name__
