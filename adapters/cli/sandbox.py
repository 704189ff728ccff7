"""`authstate sandbox`: an issuer, a backend and a model for tests on loopback, in this process.

    authstate sandbox
    authstate sandbox --json --until-eof
    authstate sandbox --signed-in ada -- codex exec "..."

The line that tells that it is ready is the last one that it prints: `ready URL` in text, `# ready URL` for a shell, the
whole object as JSON. With a command, standard output is the command's, and only a line on standard error says where the
sandbox is.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

import msgspec

from authstate.adapters.child.forwarding import forward_signals
from authstate.adapters.child.process import FORWARDED, ChildNotStarted, ChildProcess, propagate_exit
from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error
from authstate.adapters.io.signals import ENDINGS, handle_signals, signals_noted
from authstate.adapters.io.temporary_folder import temporary_folder
from authstate.adapters.sandbox.home import fill
from authstate.adapters.sandbox.pointing import Pointing
from authstate.adapters.sandbox.server import ADDRESS, RunningSandbox
from authstate.adapters.sandbox.state import DEFAULT_NAMES, SandboxAccount


def run_sandbox(options: argparse.Namespace) -> int:
    """Serve until a signal or the end of standard input, or until the command has ended.

    Returns:
        0, or the exit status of the command. If a signal ended the command, this process ends with the same signal.

    Raises:
        UsageError: an option is wrong, or the port is not available.
    """
    if options.overrides:
        raise UsageError("sandbox reads no configuration: it takes no -c, and --account after its name")
    if options.child and options.until_eof:
        raise UsageError("--until-eof is for a sandbox without a command: standard input is the command's")
    accounts = _accounts(options.names)
    if options.signed_in is not None and options.signed_in not in [account.name for account in accounts]:
        raise UsageError(f"--signed-in must be one of {', '.join(account.name for account in accounts)}")
    with signals_noted(FORWARDED) as early:  # one of them would end us, and leave the home or the command
        status = _serve(options, accounts, early)
    return propagate_exit(status)


def _serve(options: argparse.Namespace, accounts: Sequence[SandboxAccount], early: Sequence[int]) -> int:
    with temporary_folder("authstate-sandbox-") as home:
        try:
            sandbox = RunningSandbox(home, accounts, options.port)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise UsageError(f"port {options.port} of {ADDRESS} cannot be used ({reason}): take another") from None
        with sandbox:
            fill(home, sandbox, options.signed_in)
            if options.child:
                said = f"authstate: the sandbox is at {sandbox.pointing.url}/: open it in a browser to control it"
                print(said, file=sys.stderr, flush=True)
                return _run_command(options.child, sandbox.pointing, early)
            _print(sandbox.pointing, options.format)
            asyncio.run(_until_told(early, until_eof=options.until_eof))
            return ExitStatus.DONE


def _accounts(names: Sequence[str]) -> list[SandboxAccount]:
    try:
        accounts = [msgspec.convert({"name": name}, SandboxAccount) for name in names or DEFAULT_NAMES]
    except msgspec.ValidationError:
        raise UsageError("--account must be a name or an email, without spaces") from None
    if len({account.name for account in accounts}) < len(accounts):
        raise UsageError("--account names somebody twice")
    return accounts


def _print(pointing: Pointing, form: str) -> None:
    if form == "json":
        text = json.dumps(pointing.as_json())
    elif form == "env":
        text = f"{pointing.as_shell()}# ready {pointing.url}"
    else:
        text = f"{pointing.as_text()}\nready {pointing.url}"
    print(text, flush=True)


async def _until_told(early: Sequence[int], *, until_eof: bool) -> None:
    """Wait for a signal that ends programs or, if wanted, for the end of standard input.

    Args:
        early: the signals that came before.
        until_eof: whether the end of standard input counts.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    handle_signals(ENDINGS, lambda number: told.set())
    if any(signal.Signals(number).name in ENDINGS for number in early):
        told.set()
    if until_eof:
        _call_at_eof(lambda: loop.call_soon_threadsafe(told.set))
    await told.wait()


def _call_at_eof(call: Callable[[], object]) -> None:
    """Call, from another thread, when standard input has ended."""

    def read() -> None:
        try:
            while os.read(sys.stdin.fileno(), 4096):
                pass
        except OSError:  # a terminal that is gone
            pass
        call()

    threading.Thread(target=read, name="authstate-stdin", daemon=True).start()


def _run_command(command: Sequence[str], pointing: Pointing, early: Sequence[int]) -> int:
    """Run a command in the environment of the sandbox until it has ended, and return its exit status."""
    try:
        child = ChildProcess(command, pointing.environ_of_command(os.environ))
    except ChildNotStarted as error:
        return print_error(str(error), error.status)
    try:
        return asyncio.run(_until_ended(child, early))
    finally:
        child.kill()


async def _until_ended(child: ChildProcess, early: Sequence[int]) -> int:
    return await forward_signals(child, early)
