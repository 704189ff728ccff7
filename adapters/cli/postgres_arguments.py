"""The arguments of `postgres`."""

import argparse
from typing import Any

from authstate.adapters.cli.broker_arguments import Add

_POSTGRES = """Manage a PostgreSQL database that keeps logins for many machines. --database names it, or
AUTHSTATE_DATABASE_URL, without a password: libpq reads that from PGPASSFILE or a service file. The encryption keys come
from --keys, or from AUTHSTATE_DATABASE_KEYS. `pip install 'authstate[postgres]'` brings what it needs."""

_INIT = """Create the tables, and show the rights that the role of your processes needs. It may be repeated."""

_NEW_KEY = """Make an encryption key. With --keys, it becomes the last line of that file, which is made if it is
missing: it decrypts, and encrypts nothing yet. Otherwise it is printed, but not to a terminal."""

_ROTATE = """Encrypt with the first key of the list whatever another key encrypts, logins and leases. Processes may
refresh and make leases meanwhile. It may be stopped and repeated. Exit status: 0 when other keys encrypt nothing any
more, otherwise 1."""

_IMPORT = """Move the logins of a home into the database: that of the home itself to the id of --as, and that of each
other account of its vault to ID/ACCOUNT. A login is moved, not copied, because a refresh token works once. End codex
and other programs that use the home first. It may be repeated."""

_LOGOUT = """Remove the login of an account, and revoke its tokens. Its leases stay;
`authstate --account ACCOUNT lease end --all --store URL` ends them. Exit status: 0 signed out, 1 not."""

_FORGET = """Remove a login that nobody can read any more, because its key is lost or its row is damaged, and all leases
of the account. The account can then be signed in to again. Its tokens are not revoked. If the login can be read, only
the leases are removed that nobody can read. Exit status: 0 removed, 1 not."""


def add_postgres(commands: "argparse._SubParsersAction[Any]", add: Add) -> None:
    """Add `postgres init`, `migrate`, `status`, `new-key`, `rotate-key`, `import`, `logout` and `forget`."""
    postgres = add(commands, "postgres", "manage a database that keeps logins for many machines", _POSTGRES)
    steps = postgres.add_subparsers(title="commands", dest="step", required=True, metavar="COMMAND")
    for name, summary, description in (
        ("init", "create the tables, and show the rights that are needed", _INIT),
        ("migrate", "bring the tables up to date", None),
    ):
        step = _with_database(add(steps, name, summary, description))
        step.add_argument("--grant-to", metavar="ROLE", help="give this role the rights that it needs")
    status = _with_database(add(steps, "status", "count accounts, logins and leases by key, holds and claims"))
    status.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    new_key = add(steps, "new-key", "make an encryption key", _NEW_KEY)
    new_key.add_argument("--keys", metavar="FILE", help="the list that gets the key")
    _with_keys(_with_database(add(steps, "rotate-key", "encrypt everything with the first key", _ROTATE)))
    moved = _with_keys(_with_database(add(steps, "import", "move the logins of a home into the database", _IMPORT)))
    moved.add_argument("home", metavar="HOME", help="the home folder, as CODEX_HOME names it")
    moved.add_argument("--as", dest="new_id", metavar="ID", required=True, help="the id in the database; not an email")
    logout = _with_keys(_with_database(add(steps, "logout", "sign out of an account", _LOGOUT)))
    logout.add_argument("account", metavar="ACCOUNT", help="its id in the database")
    forget = _with_keys(_with_database(add(steps, "forget", "remove a login that nobody can read any more", _FORGET)))
    forget.add_argument("account", metavar="ACCOUNT", help="its id in the database")
    forget.add_argument("--lost-key", metavar="ID", help="the key that is lost for good")


def _with_database(step: argparse.ArgumentParser) -> argparse.ArgumentParser:
    step.add_argument(
        "--database", metavar="URL", help="postgresql://USER@HOST/DATABASE; by default AUTHSTATE_DATABASE_URL"
    )
    return step


def _with_keys(step: argparse.ArgumentParser) -> argparse.ArgumentParser:
    step.add_argument("--keys", metavar="FILE", help="of the encryption keys; by default AUTHSTATE_DATABASE_KEYS")
    return step
