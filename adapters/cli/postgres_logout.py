"""`authstate postgres logout`: removes the login of an account from a database, and revokes its tokens."""

import argparse
import os

from authstate.adapters.assembly import open_authority
from authstate.adapters.cli.exit_status import ExitStatus, print_error, printable
from authstate.adapters.cli.not_revoked import NotRevoked
from authstate.adapters.cli.postgres import open_database
from authstate.adapters.cli.postgres_forget import account_store
from authstate.adapters.config import Environment
from authstate.engine.engine import AuthEngine


async def sign_out_account(options: argparse.Namespace) -> ExitStatus:
    """Sign out of an account, and say what the issuer did not revoke. Its leases stay.

    Returns:
        DONE, or NOT_SIGNED_IN if no login is stored there.

    Raises:
        UsageError: the id of the account has a wrong form.
        StoreUnreadable: these keys cannot decrypt the login. Nothing was removed.
        StoreUnavailable: the database cannot be used, or another process holds the row. Nothing was removed.
        RefreshInterrupted: a refresh that was under way did not end within a minute. Nothing was removed.
    """
    async with open_database(options) as database:
        store = account_store(database, options.account)
        if await store.load() is None:
            message = f"{store.describe()}: no login is stored there, so nothing was removed"
            return ExitStatus(print_error(message, ExitStatus.NOT_SIGNED_IN))
        engine = AuthEngine(store, open_authority(Environment.read(os.environ)))
        not_revoked = NotRevoked(engine)
        async with engine:
            await engine.log_out()
    print(printable(f"Signed out of {store.describe()}. No login is stored there any more."))
    not_revoked.print()
    return ExitStatus.DONE
