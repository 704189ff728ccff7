"""The commands other than `app-server`. `cli.py` turns their errors into a line and an exit status."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error
from authstate.adapters.io.signals import ENDINGS, handle_signals
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import NotSignedIn
from authstate.engine.model.events import Event, Warned

_WHO = """Who is signed in, and where that is stored. Exit status: 0 somebody, 1 nobody, 2 the refresh token is dead,
3 the configuration is wrong, 4 what is stored cannot be read now."""

_LOGIN = """Sign in with a browser, or with a device code where no browser can be opened (ssh, a container, no
display). Exit status: 0 signed in, 4 try again later, 5 refused, 6 not done in time, 7 cancelled, 130 Ctrl-C. Whatever
fails changes nothing: who was signed in before is signed in still."""


def run(arguments: list[str]) -> int:
    """Read the command line, run the command and return its exit status. Errors are raised."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else ExitStatus.USAGE
    options.config += options.config_of_command
    status: int = options.run(options)
    return status


class _Parser(argparse.ArgumentParser):
    """A parser whose errors hide what looks like a key: a person may have typed one as an argument."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and end with the status for a wrong command line."""
        self.print_usage(sys.stderr)
        raise SystemExit(print_error(message, ExitStatus.USAGE))


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="authstate",
        description="Sign in once, and keep every process that acts for you authorized.",
        epilog="Exit status: 0 done, 1 not signed in or failed, 2 the refresh token is dead, or the command line is "
        "wrong, 3 the configuration is wrong, 4 try again later, 130 Ctrl-C, 143 SIGTERM. Of login: 5 refused, "
        "6 not done in time, 7 cancelled.",
    )
    parser.add_argument("--version", action="version", version=f"authstate {_version()}")
    _add_overrides(parser, "config")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = _add_command(commands, "app-server", _unreachable, "speak the account API on stdin and stdout")
    serve.add_argument("--listen", metavar="stdio://", default="stdio://", help="the transport; there is one")

    wrap = _add_command(
        commands,
        "wrap",
        _unreachable,
        "be between a front-end and a codex app-server, as the owner of its login",
        usage="authstate [-c KEY=VALUE] wrap [-c KEY=VALUE] -- COMMAND...",
        description="Start an app-server and be between it and the front-end at standard input and output, as the "
        "owner of its login: `authstate wrap -- codex app-server`. The exit status is the child's; 127 where there is "
        "no such program, 126 where it cannot be run.",
    )
    wrap.add_argument("child", metavar="COMMAND", nargs="+", help="after --: how the child is started")

    status = _add_command(commands, "status", _status, "who is signed in", description=_WHO)
    status.add_argument("--json", action="store_true", help="one JSON object instead of text")

    help_of_login = "sign in: with a browser, or with a device code where there is none"
    _add_ways_to_sign_in(_add_command(commands, "login", _login, help_of_login, description=_LOGIN))

    _add_command(commands, "logout", _logout, "remove what is stored, and revoke it")

    token = _add_command(commands, "token", _token, "print a valid access token, or the API key, for a script")
    token.add_argument("--force", action="store_true", help="print it even to a terminal")

    diagram = _add_command(commands, "diagram", _diagram, "write the diagrams of the state tables")
    diagram.add_argument("--check", action="store_true", help="write nothing; fail when a file is not current")
    diagram.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, default=Path("diagrams"), help="by default: diagrams"
    )

    _add_command(commands, "demo", _demo, "see it work, without an account and without the network")
    return parser


def _add_command(
    commands: "argparse._SubParsersAction[Any]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    what: str,
    *,
    description: str | None = None,
    usage: str | None = None,
) -> argparse.ArgumentParser:
    """A command whose own `--help` says at least what the list of commands says, and that takes `-c` too."""
    description = description or f"{what[0].upper()}{what[1:]}."
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=description, usage=usage)
    _add_overrides(command, "config_of_command")
    command.set_defaults(run=run)
    return command


def _add_overrides(parser: argparse.ArgumentParser, place: str) -> None:
    parser.add_argument(
        *("-c", "--config"),
        dest=place,
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a key of config.toml",
    )


def _add_ways_to_sign_in(login: argparse.ArgumentParser) -> None:
    how = login.add_mutually_exclusive_group()
    how.add_argument("--device", "--device-auth", action="store_true", help="sign in with a code, on any device")
    how.add_argument("--no-browser", action="store_true", help="open no browser, only show the URL for one")
    how.add_argument("--with-api-key", action="store_true", help="read an API key from stdin, never from an argument")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("authstate")
    except PackageNotFoundError:
        return "(not installed)"


def run_to_end(work: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine to its end. Ctrl-C, SIGTERM and SIGHUP cancel it; what must not be cut short (a refresh that was
    sent and is not stored yet) is finished first, because the engine's `close` waits for it. A second one changes
    nothing: that wait is bounded.

    Where an event loop has no signal handlers (Windows), SIGTERM ends the process at once.
    """

    async def guarded() -> int:
        task = asyncio.current_task()
        stopped: list[ExitStatus] = []

        def stop(number: int) -> None:
            if task is not None and not stopped:
                stopped.append(ExitStatus(128 + number))
                task.cancel()

        handle_signals(ENDINGS, stop)
        try:
            return await work
        except asyncio.CancelledError:
            if not stopped:
                raise
            return stopped[0]

    return asyncio.run(guarded())


def _unreachable(options: argparse.Namespace) -> int:
    raise UsageError("app-server takes -c KEY=VALUE and --listen stdio://; wrap takes -- and a command")


def _status(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.status import show_status

    return run_to_end(show_status(options.config, as_json=options.json))


def _login(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.login import LoginFlow, sign_in, sign_in_with_key

    if options.with_api_key:
        return run_to_end(sign_in_with_key(options.config, ApiKey.parse(_read_key())))
    way = LoginFlow.AUTOMATIC
    if options.device:
        way = LoginFlow.DEVICE_CODE
    elif options.no_browser:
        way = LoginFlow.URL_ONLY
    return run_to_end(sign_in(options.config, way))


def _read_key() -> str:
    """An API key from stdin: without an echo when a person types it, else everything that a program writes."""
    if not sys.stdin.isatty():
        return sys.stdin.buffer.read(65536).decode("utf-8", "replace")
    from getpass import getpass

    try:
        return getpass("API key (it is not shown): ")
    except EOFError:
        return ""


def _logout(options: argparse.Namespace) -> int:
    return run_to_end(_sign_out(options.config))


async def _sign_out(overrides: list[str]) -> int:
    from authstate.adapters.cli.context import open_context

    home = open_context(overrides, environment_key=False, acts_with_key=False)
    not_revoked: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Warned) and event.code == "not_revoked":
            not_revoked.append(event.message)

    home.engine.subscribe(on_event)
    async with home.engine as engine:
        await engine.log_out()
    print(f"Signed out: nothing is stored in {home.place} any more.")
    for message in not_revoked:
        print_error(message, ExitStatus.DONE)
    if home.environment.api_key is not None:
        print("CODEX_API_KEY is still set: unset it to be signed out everywhere.", file=sys.stderr)
    return ExitStatus.DONE


def _token(options: argparse.Namespace) -> int:
    if sys.stdout.isatty() and not options.force:
        raise UsageError("a token does not belong on a screen: send it to a program, or say --force")
    return run_to_end(_print_token(options.config))


async def _print_token(overrides: list[str]) -> int:
    from authstate.adapters.cli.context import open_context

    async with open_context(overrides).engine as engine:
        try:
            authorization = await engine.authorization()
        except NotSignedIn:
            if engine.store_fault is not None:
                raise engine.store_fault from None
            raise
        print(authorization.token.reveal())
    return ExitStatus.DONE


def _diagram(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.tables import TABLES
    from authstate.engine.machines.diagrams import render_all

    directory: Path = options.directory
    files = render_all(TABLES)
    if options.check:
        stale = [name for name, text in files.items() if _read(directory / name) != text]
        if stale:
            names = ", ".join(stale)
            message = f"{directory} is not current ({names}): run `authstate diagram {directory}`"
            return print_error(message, ExitStatus.NOT_SIGNED_IN)
        print(f"{directory}: {len(files)} files are current.")
        return ExitStatus.DONE
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"Wrote {len(files)} files to {directory}.")
    return ExitStatus.DONE


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _demo(options: argparse.Namespace) -> int:
    from authstate.adapters.cli.demo import run_demo

    return run_to_end(run_demo())
