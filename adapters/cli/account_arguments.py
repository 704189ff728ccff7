"""The arguments of `account`."""

import argparse
from typing import Any

from authstate.adapters.cli.broker_arguments import Add
from authstate.adapters.cli.login_arguments import add_flows

_ACCOUNT = """Show and change the accounts of this home: several logins, each stored once, in a folder and under a lock
of its own. The account `home` is the login that codex knows, in auth.json. Every command takes `--account NAME`."""

_ADD = """Sign in to a new account, as `login` does. Without NAME, the nickname comes from the email. If the person is
in the vault already, with the same workspace, that account gets the new login. A sign-in that fails leaves no trace."""

_USE = """Use an account wherever none is named. No token moves. Running windows that are not pinned by --account or
AUTHSTATE_ACCOUNT follow within a second; one that runs a turn follows when the turn has ended."""

_REMOVE = """Sign out of an account, revoke its tokens, end its leases and remove its folder. The home's own account is
signed out, and stays in the list."""


def add_account(commands: "argparse._SubParsersAction[Any]", add: Add) -> None:
    """Add `account list`, `add`, `use`, `rename` and `remove`."""
    account = add(commands, "account", "list, add, select, rename and remove accounts", _ACCOUNT)
    steps = account.add_subparsers(title="commands", dest="step", required=True, metavar="COMMAND")
    add(steps, "list", "list the accounts, and who is signed in to each")
    new = add(steps, "add", "sign in to a new account", _ADD)
    new.add_argument("name", metavar="NAME", nargs="?", help="its nickname; by default it comes from the email")
    add_flows(new)
    use = add(steps, "use", "select the account that is used where none is named", _USE)
    use.add_argument("name", metavar="NAME", help="its nickname or id")
    rename = add(steps, "rename", "give an account another nickname")
    rename.add_argument("name", metavar="OLD", help="its nickname or id")
    rename.add_argument("new_name", metavar="NEW", help="its nickname from now on")
    remove = add(steps, "remove", "sign out of an account, and remove it", _REMOVE)
    remove.add_argument("name", metavar="NAME", help="its nickname or id")
    for step in steps.choices.values():
        step.add_argument("--json", action="store_true", help="print one JSON object instead of text")
