"""`authstate broker`: runs the broker of a home or of a database, prints a unit for it, and moves the home's login into
the vault.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING

from authstate.adapters.broker.leased_home import lease_environment
from authstate.adapters.broker.listeners import DEFAULT_ADDRESS, DEFAULT_PORT, HAS_UNIX_SOCKETS, Address
from authstate.adapters.broker.local_client import socket_path
from authstate.adapters.cli.broker_place import DEFAULT_URL, START, find_broker
from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error, printable
from authstate.adapters.cli.store_option import opened_broker
from authstate.adapters.config import Config, ConfigError, Environment, StoreMode, load_config
from authstate.adapters.io.signals import ENDINGS, handle_signals

if TYPE_CHECKING:
    from authstate.adapters.broker.broker import Broker
    from authstate.adapters.broker.local_api import Place
    from authstate.adapters.broker.server import ServerOptions
    from authstate.adapters.vault.adoption import Adoption

_OPEN_FILES = 4096
_DATABASE_CONNECTIONS = 8
_HOST = re.compile(r"[\w.-]+|\[[0-9A-Fa-f:.]+\]")


def run_broker(options: argparse.Namespace) -> int:
    """Serve until a signal, and return 0.

    Raises:
        UsageError, ConfigError: an option or a setting cannot be used, or the packages of the extra are missing.
        OSError: the socket cannot be created.
    """
    environment, config = _configured(options.overrides)
    for host in options.allow_host:
        if not _HOST.fullmatch(host):
            raise UsageError("--allow-host must be the name of a host, such as host.docker.internal, without a port")
    if options.print_unit is not None:
        print(_unit(options), end="")
        return ExitStatus.DONE
    try:
        from authstate.adapters.broker.server import ServerOptions
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"`authstate broker` needs the package {_top_of(missing)}: run `pip install 'authstate[broker]'`"
        ) from None
    server_options = ServerOptions(
        address=Address(options.listen or f"{DEFAULT_ADDRESS}:{DEFAULT_PORT}"),
        socket=_socket(options, environment),
        certificate=options.tls_certificate,
        key=options.tls_key,
        hosts=tuple(options.allow_host),
    )
    if options.socket and not HAS_UNIX_SOCKETS:
        raise UsageError("--socket is not supported on Windows: the broker listens on TCP only")
    _raise_file_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        opened = opened_broker(options, config, environment, _DATABASE_CONNECTIONS)
        runner.run(_serve(opened, environment, server_options))
    return ExitStatus.DONE


def _socket(options: argparse.Namespace, environment: Environment) -> str | None:
    """Return the path of the unix socket. By default, the broker of a database has none: it belongs to no home."""
    if options.socket is not None:
        return os.path.abspath(str(options.socket))
    return None if options.store is not None else socket_path(environment.home, os.environ)


async def _serve(
    opened: "AbstractAsyncContextManager[Broker]", environment: Environment, options: "ServerOptions"
) -> None:
    from authstate.adapters.broker.server import BrokerServer
    from authstate.adapters.logs.program import configure_program_logs

    configure_program_logs("info")
    async with opened as broker:
        server = BrokerServer(broker, environment, options)
        handle_signals(ENDINGS, lambda number: server.stop())

        def ready(place: "Place") -> None:
            beside = f" and {place.socket}" if place.socket else ""
            said = f"authstate: the broker of {broker.accounts.place} serves {place.url}{beside}"
            print(printable(said), file=sys.stderr, flush=True)

        await server.serve(ready)


def _top_of(missing: ModuleNotFoundError) -> str:
    return (missing.name or "of the extra").partition(".")[0]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, where it is installed: it serves more requests."""
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:  # on Windows
        return None
    return new_event_loop


async def adopt(options: argparse.Namespace) -> ExitStatus:
    """Move the login of the home into the vault, and say what codex needs from now on.

    Raises:
        ConfigError, AuthError: nothing was moved.
    """
    _ensure_of_home(options)
    environment, config = _configured(options.overrides)
    place = await find_broker(environment, options.broker_url)
    adoption = _adoption(environment, config)
    lease = await adoption.adopt()
    variables = lease_environment(place.url)
    if not place.answers:
        print_error(f"no broker answers now, and codex gets access tokens from one only: {START}", ExitStatus.DONE)
    if options.json:
        lease_id = lease.id if lease is not None else None
        print(json.dumps({"adopted": lease is not None, "leaseId": lease_id, "variables": variables}))
        return ExitStatus.DONE
    print("The vault now has the login of this home." if lease else "The vault has the login of this home already.")
    print("codex refreshes it through the broker. Put these lines into your shell profile, and keep a broker running")
    print("(`authstate broker --print-unit systemd` prints a unit for it):")
    for name, value in variables.items():
        print(f"  export {name}={value}")
    return ExitStatus.DONE


async def release(options: argparse.Namespace) -> ExitStatus:
    """Move the login back into the home.

    Raises:
        ConfigError, AuthError: nothing was moved.
    """
    _ensure_of_home(options)
    environment, config = _configured(options.overrides)
    released = await _adoption(environment, config).release()
    if options.json:
        print(json.dumps({"released": released}))
        return ExitStatus.DONE
    if not released:
        print("The login of this home is in the home: there is nothing to release.")
        return ExitStatus.DONE
    print("The login is in the home again. Remove these variables from your shell profile:")
    for name in lease_environment(DEFAULT_URL):
        print(f"  {name}")
    return ExitStatus.DONE


def _ensure_of_home(options: argparse.Namespace) -> None:
    if options.store is not None or options.keys is not None:
        raise UsageError("adopt and release move the login of a home, and --store names a database: leave it out")


def _adoption(environment: Environment, config: Config) -> "Adoption":
    from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
    from authstate.adapters.vault.adoption import Adoption
    from authstate.adapters.vault.lease_book import LeaseBook
    from authstate.adapters.vault.vault import Vault

    if config.account not in (None, HOME_ACCOUNT):
        raise ConfigError(
            f"only the home's own login can be adopted or released, and the account {config.account} is another one: "
            "leave out --account, AUTHSTATE_ACCOUNT and authstate.account, or make a lease with `authstate lease new`"
        )
    if config.store_mode is StoreMode.EPHEMERAL:
        raise ConfigError("credentials in memory cannot be adopted: use another cli_auth_credentials_store")
    vault = Vault(environment.home, config.store_mode)
    return Adoption(vault, LeaseBook(vault.folder))


def _configured(overrides: Sequence[str]) -> tuple[Environment, Config]:
    environment = Environment.read(os.environ, acts_with_key=False)
    return environment, load_config(environment.home, overrides)


def _unit(options: argparse.Namespace) -> str:
    """Return the unit that starts a broker with the same options. Raises UsageError, ConfigError."""
    from authstate.adapters.broker.service_units import KEPT_VARIABLES, launchd_plist, systemd_unit

    script = shutil.which("authstate", path=os.path.dirname(sys.executable))
    command = [script] if script else [sys.executable, "-m", "authstate.adapters.cli"]
    command += [word for override in options.overrides for word in ("-c", override)]
    command.append("broker")
    if options.store is not None:
        _ensure_shown(options)
    paths = ("socket", "keys", "tls_certificate", "tls_key")
    for name in ("listen", "store", "pool_mode", "direct_url", *paths):
        value = getattr(options, name)
        if value is not None:
            command += [f"--{name.replace('_', '-')}", os.path.abspath(value) if name in paths else value]
    command += [word for host in options.allow_host for word in ("--allow-host", host)]
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if os.environ.get(name, "").strip()}
    return (systemd_unit if options.print_unit == "systemd" else launchd_plist)(command, environment)


def _ensure_shown(options: argparse.Namespace) -> None:
    """Refuse a unit that would hold a secret, or lack one. Raises UsageError, ConfigError."""
    from authstate.adapters.postgres.connection_target import DatabaseUrlInvalid, connection_string

    if options.keys is None:
        raise UsageError("a unit holds no secret, such as AUTHSTATE_DATABASE_KEYS: name a file with --keys")
    try:
        for url in filter(None, (options.store, options.direct_url)):
            connection_string(url)
    except DatabaseUrlInvalid as error:
        raise ConfigError(str(error)) from None


def _raise_file_limit() -> None:
    """Allow as many open files as idle and slow clients can cause."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
