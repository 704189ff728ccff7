"""Which database is meant: a URL or a connection string of libpq, without a password."""

from typing import Final

from authstate.engine.model.errors import AuthstateError, strip_tracebacks

_PARAMETERS: Final = {"application_name": "authstate", "connect_timeout": "10", "target_session_attrs": "read-write"}
_ENCODING: Final = {"client_encoding": "UTF8"}  # whatever PGCLIENTENCODING, the role or the database says
_LIVENESS: Final = {"keepalives_idle": "15", "keepalives_interval": "5", "keepalives_count": "3"}


class DatabaseUrlInvalid(AuthstateError):
    """The URL of a database cannot be used. The message does not repeat it: it may hold a password."""


@strip_tracebacks
def connection_string(url: str) -> str:
    """Return what libpq connects with.

    Anything that the URL leaves out comes from where libpq finds it: `PGHOST`, a service file, `PGPASSFILE`. By default
    only a server that accepts writes is used, so several hosts may be named, and a connection that is dead is noticed.

    Args:
        url: `postgresql://...` or `host=... dbname=...`.

    Raises:
        DatabaseUrlInvalid: it has another form, or it contains a password, which others could see.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        given = conninfo_to_dict(url)
    except ProgrammingError:
        raise DatabaseUrlInvalid(
            "this is no URL of a database: expected postgresql://USER@HOST/DATABASE, or what libpq takes"
        ) from None
    for secret in ("password", "sslpassword"):
        if given.get(secret):
            raise DatabaseUrlInvalid(
                f"the URL of the database contains a {secret}, which others may see: put it into the file that "
                "PGPASSFILE names (HOST:PORT:DATABASE:USER:PASSWORD, mode 0600), or into a service file"
            )
    return make_conninfo("", **{**_PARAMETERS, **_LIVENESS, **given, **_ENCODING})


def describe(url: str) -> str:
    """Return the name of a database for a person: host and database, nothing else of the URL."""
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(url)
    host = given.get("host") or given.get("hostaddr") or given.get("service") or "the local server"
    port = f":{given['port']}" if given.get("port") else ""
    return f"PostgreSQL at {host}{port}, database {given.get('dbname') or given.get('user') or 'of this user'}"
