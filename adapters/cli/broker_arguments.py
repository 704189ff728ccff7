"""The arguments of `broker` and `lease`."""

import argparse
from collections.abc import Callable
from typing import Any

from authstate.adapters.cli.store_option import add_pooler, add_store

Add = Callable[..., argparse.ArgumentParser]
"""Adds a command: the commands to add it to, its name, its summary and its description."""

_BROKER = """Serve access tokens to codex and to any OAuth client, from the logins of this home, or of a database that
any number of brokers share (--store). codex uses it if
CODEX_REFRESH_TOKEN_URL_OVERRIDE and CODEX_REVOKE_TOKEN_URL_OVERRIDE name it. It runs until SIGTERM, SIGINT or SIGHUP.
`pip install 'authstate[broker]'` brings what it needs."""

_ADOPT = """Move the login of this home into the vault, and leave a lease in its place: codex then gets access tokens
from the broker, and no refresh token is left where it can be copied. `release` turns it back."""

_NEW = """Make a lease: a handle that yields access tokens of one account from the broker, and nothing else. One of
--into, --env and --json says what becomes of it. It is not shown again."""


def add_broker(commands: "argparse._SubParsersAction[Any]", add: Add) -> None:
    """Add `broker`, `broker adopt` and `broker release`."""
    broker = add(commands, "broker", "serve access tokens to every codex of this user", _BROKER)
    broker.add_argument("--listen", metavar="ADDRESS:PORT", help="by default 127.0.0.1:4517; another host needs TLS")
    broker.add_argument(
        "--socket", metavar="PATH", help="the unix socket; by default authstate/broker.sock in the home"
    )
    add_store(broker)
    add_pooler(broker)
    broker.add_argument("--tls-certificate", metavar="FILE", help="serve https with this certificate (PEM)")
    broker.add_argument("--tls-key", metavar="FILE", help="its private key (PEM)")
    broker.add_argument(
        *("--allow-host", "--allowed-host"),
        dest="allow_host",
        metavar="NAME",
        action="append",
        default=[],
        help="another name under which clients reach the loopback address, such as host.docker.internal",
    )
    broker.add_argument(
        "--print-unit", choices=("systemd", "launchd"), help="print a unit that starts it with these options, and exit"
    )
    steps = broker.add_subparsers(title="commands", dest="step", metavar="COMMAND")
    for name, summary, description in (
        ("adopt", "move the login of this home into the vault, and leave a lease", _ADOPT),
        ("release", "move the login back into the home", None),
    ):
        step = add(steps, name, summary, description)
        step.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        if name == "adopt":
            step.add_argument("--broker-url", metavar="URL", help="of the broker, as codex reaches it")


def add_lease(commands: "argparse._SubParsersAction[Any]", add: Add) -> None:
    """Add `lease new`, `lease list` and `lease end`."""
    lease = add(commands, "lease", "make, list and end leases: access tokens for a sandbox, a container or a CI job")
    steps = lease.add_subparsers(title="commands", dest="step", required=True, metavar="COMMAND")
    new = add(steps, "new", "make a lease on an account", _NEW)
    new.add_argument("--ttl", metavar="TIME", default="8h", help="such as 30m, 8h or 7d, or `none`; by default 8h")
    new.add_argument("--label", metavar="TEXT", default="", help="what you call it")
    new.add_argument("--broker-url", metavar="URL", help="of the broker, as the client reaches it")
    add_store(new)
    form = new.add_mutually_exclusive_group(required=True)
    form.add_argument("--into", metavar="DIR", help="write a home for codex: auth.json, and authstate.env")
    form.add_argument("--env", action="store_true", help="print environment variables, with the handle")
    form.add_argument("--json", action="store_true", help="print one JSON object, with the handle")
    listed = add(steps, "list", "list the leases, also those that are over")
    listed.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    add_store(listed)
    end = add(steps, "end", "end a lease: it yields nothing from now on")
    which = end.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="of the lease, as `lease list` shows it")
    which.add_argument("--all", action="store_true", help="end all leases, but not that of an adopted home")
    add_store(end)
