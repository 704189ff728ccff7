"""`authstate run -- COMMAND...`: runs a command, and a broker for its codex processes as long as it runs.

    authstate run -- codex exec "..."
    authstate run --account work -- ./script-that-calls-codex

codex sends its refreshes to this process, which spends the refresh token under the lock that every process of the login
shares, and stores what comes back. The command runs on the home of today. Nothing has to be set up, and other windows,
other runs and plain codex may use the same home meanwhile.

The port is open before the command starts, so that nothing is refused; what only an answer needs is imported after it.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from socket import socket

from authstate.adapters.child.forwarding import forward_signals
from authstate.adapters.child.process import FORWARDED, ChildNotStarted, ChildProcess, propagate_exit
from authstate.adapters.cli.account_in_use import uses_home_account
from authstate.adapters.cli.codex_arguments import without_daemon
from authstate.adapters.cli.command_home import command_home
from authstate.adapters.cli.exec_command import exec_command, exec_unmanaged
from authstate.adapters.cli.exit_status import print_error
from authstate.adapters.cli.leftover_processes import describe_leftovers, leftover_processes
from authstate.adapters.cli.signed_out_home import say_if_signed_out
from authstate.adapters.config import Config, Environment, StoreMode, load_config
from authstate.adapters.config.settings import (
    BROKER_VARIABLE,
    ISSUER_REFRESH_VARIABLE,
    ISSUER_REVOKE_VARIABLE,
    REFRESH_URL_VARIABLE,
    REVOKE_URL_VARIABLE,
    BrokerEndpoints,
)
from authstate.adapters.config.unmanaged_logins import find_unmanaged_login
from authstate.adapters.io.fast_imports import paused_gc
from authstate.adapters.io.signals import signals_noted
from authstate.adapters.logs.program import keep_warnings_on_stderr
from authstate.adapters.network.loopback_sockets import IPV4, listen_on
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT
from authstate.adapters.vault.vault import Vault
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import AuthError
from authstate.engine.model.lease_handle import PREFIX, is_lease

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOOPBACK = ("127.0.0.1", "localhost")
_LARGEST = 4 * 1024 * 1024  # bytes


def run(overrides: Sequence[str], command: Sequence[str], *, is_codex: bool | None = None) -> int:
    """Run a command with a broker until it has ended.

    Args:
        overrides: `-c KEY=VALUE` for our own configuration.
        command: the program and its arguments. Its standard streams are ours.
        is_codex: whether the program is codex. By default its name decides.

    Returns:
        The exit status of the command. If a signal ended it, this process ends with the same signal.

    Raises:
        ConfigError: the configuration is invalid. The command was not started.
        OSError: no port is free.
    """
    if other := find_unmanaged_login(os.environ, overrides, uses_home=lambda: uses_home_account(overrides)):
        return exec_unmanaged(command, other, "the command runs without a broker")
    keep_warnings_on_stderr()
    environment = Environment.read(os.environ, acts_with_key=False)
    config = load_config(environment.home, overrides)
    if config.store_mode is StoreMode.EPHEMERAL or has_lease_of_another_broker(config, environment):
        return exec_command(command)
    place = command_home(config, environment)
    listener = listen_on(0)
    base_url = f"http://{IPV4}:{listener.getsockname()[1]}"
    environ = environ_with_broker(os.environ, base_url, environment)
    if place is not None:
        environ.update(place.environment)
    before = stored_login(config, environment)
    if before is None and place is None and is_codex is None:  # authstate-codex is as quiet as codex
        say_if_signed_out(config, environment, command)
    command = without_daemon(command, is_codex=is_codex)
    with signals_noted(FORWARDED) as early:  # one of them would end us, and leave the child
        try:
            child = ChildProcess(command, environ)
        except ChildNotStarted as error:
            listener.close()
            return print_error(str(error), error.status)
        try:
            status = asyncio.run(_serve(config, environment, child, listener, before, early))
        finally:
            child.kill()
    if place is not None and (said := place.take_over()):
        print_error(said, status)
    if left := leftover_processes(BROKER_VARIABLE, base_url):
        print_error(describe_leftovers(left), status)
    sys.stderr.flush()
    return propagate_exit(status)


def has_lease_of_another_broker(config: Config, environment: Environment) -> bool:
    """Whether the login of the home is a lease that was made elsewhere, as in a sandbox.

    The environment then names the broker that made it, and the command needs no other one.
    """
    place = os.path.join(environment.home, "auth.json")
    is_file = config.store_mode in (StoreMode.FILE, StoreMode.AUTO)
    if not is_file or config.account not in (None, HOME_ACCOUNT) or Vault.exists_in(environment.home):
        return False
    try:
        with open(place, "rb") as file:
            return PREFIX.encode() in file.read(_LARGEST)
    except OSError:
        return False


def stored_login(config: Config, environment: Environment) -> ChatgptTokens | None:
    """Return the login in auth.json, which the command may load when it starts. None if there is none, or only a lease.

    A codex without authstate may replace it before the command presents it, and that leaves no claim.
    """
    if config.store_mode not in (StoreMode.FILE, StoreMode.AUTO):
        return None
    try:
        found = asyncio.run(AuthJsonStore(environment.home).load())
    except AuthError:  # whoever uses it reports it
        return None
    return found if isinstance(found, ChatgptTokens) and not is_lease(found.refresh_token) else None


def environ_with_broker(environ: Mapping[str, str], base_url: str, environment: Environment) -> dict[str, str]:
    """Return the environment of a command whose codex processes use a broker.

    It names no secret. A proxy is told to leave loopback addresses alone.

    Args:
        environ: the environment to add to.
        base_url: of the broker, without a slash at the end.
        environment: what was configured, for authstate processes that the command starts.
    """
    endpoints = BrokerEndpoints.of(base_url)
    child = {
        **environ,
        BROKER_VARIABLE: base_url,
        REFRESH_URL_VARIABLE: endpoints.refresh_url,
        REVOKE_URL_VARIABLE: endpoints.revoke_url,
    }
    for name, value in (
        (ISSUER_REFRESH_VARIABLE, environment.refresh_url),
        (ISSUER_REVOKE_VARIABLE, environment.revoke_url),
    ):
        child.pop(name, None)
        if value is not None:
            child[name] = value
    if any(child.get(name) or child.get(name.upper()) for name in _PROXIES):
        named = child.get("no_proxy") or child.get("NO_PROXY") or ""
        hosts = [*(host.strip() for host in named.split(",") if host.strip()), *_LOOPBACK]
        child["no_proxy"] = child["NO_PROXY"] = ",".join(dict.fromkeys(hosts))
    return child


async def _serve(
    config: Config,
    environment: Environment,
    child: ChildProcess,
    listener: socket,
    before: ChatgptTokens | None,
    early: Sequence[int],
) -> int:
    """Answer the child's processes until it has ended. Return its exit status.

    Args:
        config, environment: what was configured.
        child: runs.
        listener: of the broker.
        before: what the child's processes may have loaded.
        early: the signals that came before.
    """
    ended = forward_signals(child, early)
    with paused_gc():
        from authstate.adapters.broker.broker import open_broker
        from authstate.adapters.broker.loopback_broker import LoopbackBroker

    async with open_broker(config, environment) as broker:
        if before is not None:
            broker.accounts.owners.remember(HOME_ACCOUNT, before)
        server = LoopbackBroker(broker, listener)
        await server.start()
        status = await ended
        await server.close()
    return status
