"""`authstate lease`: makes, lists and ends leases of this home's vault, or of a database. No broker need run."""

import argparse
import json
import os
import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime

from authstate.adapters.broker.account_tokens import NewLease, make_lease
from authstate.adapters.broker.leased_home import ensure_usable, lease_environment, write_leased_home
from authstate.adapters.broker.shown_members import lease_members
from authstate.adapters.cli.broker_place import START, BrokerPlace, find_broker, find_named_broker
from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error, printable
from authstate.adapters.cli.store_option import opened_broker
from authstate.adapters.config import Config, Environment, load_config
from authstate.adapters.config.settings import REFRESH_URL_VARIABLE, REVOKE_URL_VARIABLE
from authstate.adapters.network.http_proxies import urlsplit_or_none
from authstate.adapters.network.insecure_http import is_loopback
from authstate.engine.machines.lease import Lease, LeaseState

HANDLE_VARIABLE = "AUTHSTATE_LEASE"
"""Holds the handle of a lease for a client that is no codex."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


async def new_lease(options: argparse.Namespace) -> ExitStatus:
    """Make a lease on the account that is named or selected, and write or print it.

    Raises:
        UsageError, ConfigError, AuthError: there is no lease.
        StoreUnavailable, OSError: it could not be written, and was ended again.
    """
    ttl = seconds_of(options.ttl)
    environment, config = _configured(options)
    place = await _place(options, environment)
    if options.into is not None:
        ensure_usable(options.into)
    variables = lease_environment(place.url, _allowed_host(place.url))
    async with opened_broker(options, config, environment) as broker:
        made = await make_lease(broker, config.account, ttl, options.label)
        if not place.answers:
            print_error(f"no broker answers now, and the lease yields nothing without one: {START}", ExitStatus.DONE)
        if options.into is not None:
            try:
                written = await write_leased_home(os.path.abspath(options.into), made, config, variables)
            except BaseException:
                await broker.leases.end(made.lease.id)
                raise
            print(_described(made, options, written))
            return ExitStatus.DONE
    handle = made.handle.secret.reveal()
    if options.env:
        for name, value in {**variables, HANDLE_VARIABLE: handle}.items():
            print(f"{name}={value}")
    else:
        lease = _members(made.lease, await broker.accounts.names((made.lease.account,)))
        urls = {"refreshUrl": variables[REFRESH_URL_VARIABLE], "revokeUrl": variables[REVOKE_URL_VARIABLE]}
        print(json.dumps({"lease": lease, "handle": handle, **urls, "variables": variables}, indent=2))
    return ExitStatus.DONE


async def list_leases(options: argparse.Namespace) -> ExitStatus:
    """Print all leases; those of one account of a database. Raises ConfigError, StoreUnavailable."""
    environment, config = _configured(options)
    async with opened_broker(options, config, environment) as broker:
        leases = await broker.leases.listed(_account(options, config))
        names = await broker.accounts.names({lease.account for lease in leases})
    if options.json:
        found = [_members(lease, names) for lease in leases]
        print(json.dumps({"leases": found}, indent=2))
        return ExitStatus.DONE
    for lease in leases:
        end = f"until {_instant(lease.expires_at)}" if lease.expires_at is not None else "without an end"
        state = end if lease.state is LeaseState.ACTIVE else lease.state
        account = names.get(lease.account) or f"{lease.account} (removed)"
        print(printable(f"{lease.id}  {account}  {state}  {lease.label}".rstrip()))
    if not leases:
        print("There are no leases.")
    return ExitStatus.DONE


async def end_lease(options: argparse.Namespace) -> ExitStatus:
    """End one lease, or all but that of an adopted home; all of one account of a database.

    Raises ConfigError, StoreUnavailable.
    """
    environment, config = _configured(options)
    async with opened_broker(options, config, environment) as broker:
        if not options.all:
            lease = await broker.leases.end(options.id)
            print(f"The lease {lease.id} is over.")
            return ExitStatus.DONE
        ended = await broker.leases.end_all(_account(options, config))
    print(f"Ended {len(ended)} lease{'' if len(ended) == 1 else 's'}.")
    return ExitStatus.DONE


def seconds_of(text: str) -> float | None:
    """Return a time such as `30m`, `8h` or `7d` in seconds. None for `none`. Raises UsageError."""
    if text.strip().lower() == "none":
        return None
    found = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if found is None or int(found[1]) == 0:
        raise UsageError("--ttl must be a time such as 90s, 30m, 8h or 7d, or `none`")
    return float(int(found[1]) * _UNITS[found[2]])


def _configured(options: argparse.Namespace) -> tuple[Environment, Config]:
    environment = Environment.read(os.environ, acts_with_key=False)
    return environment, load_config(environment.home, options.overrides)


async def _place(options: argparse.Namespace, environment: Environment) -> BrokerPlace:
    """Return where clients reach the broker. Raises UsageError, ConfigError."""
    if options.store is None:
        return await find_broker(environment, options.broker_url)
    if options.broker_url is None:
        raise UsageError("with --store, --broker-url says how clients reach the brokers: https://HOST")
    return await find_named_broker(environment, options.broker_url)


def _account(options: argparse.Namespace, config: Config) -> str | None:
    """Return the account whose leases are meant. None: all of the home."""
    return None if options.store is None else config.account


def _allowed_host(url: str) -> str | None:
    """Return the host of an `http://` URL of another machine: `find_broker` found that its owner allows it."""
    parts = urlsplit_or_none(url)
    host = parts.hostname if parts is not None and parts.scheme == "http" else None
    return None if host is None or is_loopback(host) else host


def _described(made: NewLease, options: argparse.Namespace, written: list[str]) -> str:
    lease = made.lease
    named = (("--store", options.store), ("--keys", options.keys))
    database = [word for option, value in named if value is not None for word in (option, shlex.quote(value))]
    end = f"until {_instant(lease.expires_at)}" if lease.expires_at is not None else "without an end"
    lines = [
        f"Lease {lease.id} on the account {made.account.name}, {end}.",
        *(f"  wrote  {path}" for path in written),
        f"  use    CODEX_HOME={options.into}, with the variables of authstate.env",
        f"  end    {' '.join(('authstate lease end', lease.id, *database))}",
    ]
    return "\n".join(printable(line) for line in lines)


def _members(lease: Lease, names: Mapping[str, str]) -> dict[str, object]:
    """Return a lease as a program reads it: as in the API of the broker, with times as text."""
    end = _instant(lease.expires_at) if lease.expires_at is not None else None
    return {**lease_members(lease, names), "createdAt": _instant(lease.created_at), "expiresAt": end}


def _instant(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # somebody damaged the file by hand
        return f"{seconds:g}"
