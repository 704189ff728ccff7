"""The arguments of each command, and the help texts. What the commands do is in `commands.py`."""

import argparse
import sys
from typing import Any, NoReturn

from authstate.adapters.broker.min_lifetime import read_min_lifetime
from authstate.adapters.cli.account_arguments import add_account
from authstate.adapters.cli.broker_arguments import add_broker, add_lease
from authstate.adapters.cli.diagram_arguments import add_diagram
from authstate.adapters.cli.exit_status import ExitStatus, print_error
from authstate.adapters.cli.login_arguments import LOGIN, add_flows
from authstate.adapters.cli.postgres_arguments import add_postgres
from authstate.adapters.cli.report_arguments import add_report
from authstate.adapters.cli.sandbox_arguments import add_sandbox
from authstate.adapters.cli.verify_arguments import add_verify
from authstate.adapters.config.override_arguments import ACCOUNT, account_override

_STATUS = """Show who is signed in, and where the login is stored. Exit status: 0 somebody, 1 nobody, 2 the refresh
token is dead, 3 the configuration is wrong, 4 the store cannot be read now."""

_WRAP = """Start an app-server, relay between it and the front-end on standard input and output, and own its login:
`authstate wrap -- codex app-server`. The exit status is that of the app-server; 127 if the program does not exist, 126
if it cannot be run."""

_RUN = """Run a command on the login of today, and let its codex processes refresh through authstate as long as it runs:
`authstate run -- codex exec "..."`. The exit status is that of the command; 127 if the program does not exist, 126 if
it cannot be run."""

_FORMATS = "the token alone (by default), one JSON object, HTTP header lines, or variables for a shell"

_TOKEN = """Print a token that authorizes requests now, for a script or as the credential helper of another program. It
is refreshed first if it has expired. On failure, nothing is printed on standard output. Exit status: 0 done, 1 not
signed in, 2 the refresh token is dead, 3 the configuration is wrong, 4 try again later."""

_EXIT_STATUS = """Exit status: 0 done, 1 not signed in or failed, 2 the refresh token is dead or the command line is
wrong, 3 the configuration is wrong, 4 try again later, 130 Ctrl-C, 143 SIGTERM. Of login: 5 refused, 6 timed out,
7 cancelled."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read a command line.

    Returns:
        `command` is the name of the command, `overrides` are all its `-c KEY=VALUE` in order. The rest depends on the
        command.

    Raises:
        SystemExit: the command line is wrong, or asks for the help or the version, which was printed.
    """
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        command = " ".join(filter(None, ("authstate", options.command, getattr(options, "step", None))))
        parser.error(f"unrecognized arguments: {' '.join(unknown)}: `{command} --help` lists those that it takes")
    options.overrides += options.command_overrides
    options.overrides += getattr(options, "step_overrides", [])
    return options


class _Parser(argparse.ArgumentParser):
    """A parser whose errors hide what looks like a key: a person may have typed one as an argument."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with the status for a wrong command line."""
        self.print_usage(sys.stderr)
        raise SystemExit(print_error(message, ExitStatus.USAGE))


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="authstate",
        description="Sign in once, and keep every process that acts for you authorized.",
        epilog=_EXIT_STATUS,
    )
    parser.add_argument("--version", action="version", version=f"authstate {_version()}")
    _add_overrides(parser, "overrides")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    serve = _add_command(commands, "app-server", "serve the account API on standard input and output")
    serve.add_argument("--listen", metavar="stdio://", default="stdio://", help="the transport; there is only one")

    wrap = _add_command(commands, "wrap", "relay between a front-end and a codex app-server, and own its login", _WRAP)
    wrap.usage = "authstate wrap [--account NAME] [-c KEY=VALUE] -- COMMAND..."
    wrap.add_argument("child", metavar="COMMAND", nargs="+", help="after --: the command that starts the app-server")

    run = _add_command(commands, "run", "run a command, and a broker for its codex processes", _RUN)
    run.usage = "authstate run [--account NAME] [-c KEY=VALUE] -- COMMAND..."
    run.add_argument("child", metavar="COMMAND", nargs="+", help="after --: any command, for example a codex one")

    add_account(commands, _add_command)
    add_broker(commands, _add_command)
    add_lease(commands, _add_command)
    add_postgres(commands, _add_command)

    status = _add_command(commands, "status", "show who is signed in", _STATUS)
    status.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    add_flows(_add_command(commands, "login", "sign in with a browser, or with a device code if there is none", LOGIN))
    _add_command(commands, "logout", "remove the stored login and revoke its tokens")

    token = _add_command(commands, "token", "print a valid access token, or the API key, for a script", _TOKEN)
    token.add_argument("--format", choices=("bearer", "json", "header", "env"), default="bearer", help=_FORMATS)
    token.add_argument(
        "--min-lifetime", metavar="SECONDS", type=_seconds, default=0.0, help="refresh a token that lasts shorter"
    )
    token.add_argument("--force", action="store_true", help="print it even to a terminal")

    add_diagram(commands, _add_command)
    add_report(commands, _add_command)
    add_verify(commands, _add_command)
    _add_command(commands, "demo", "show what authstate does, without an account and without the network")
    add_sandbox(commands)
    return parser


def _add_command(
    commands: "argparse._SubParsersAction[Any]", name: str, summary: str, description: str | None = None
) -> argparse.ArgumentParser:
    """Add a command, or a step of one, that takes `-c`. Without a description, its own help repeats the summary."""
    description = description or f"{summary[0].upper()}{summary[1:]}."
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=description)
    _add_overrides(command, "step_overrides" if commands.dest == "step" else "command_overrides")
    return command


def _add_overrides(parser: argparse.ArgumentParser, destination: str) -> None:
    parser.add_argument(
        *("-c", "--config"),
        dest=destination,
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a key of config.toml",
    )
    parser.add_argument(
        ACCOUNT,
        dest=destination,
        metavar="NAME",
        action="append",
        default=[],
        type=account_override,
        help="use this account of the vault, instead of the selected one",
    )


def _seconds(text: str) -> float:
    seconds = read_min_lifetime(text)
    if seconds is None:
        raise argparse.ArgumentTypeError("must be a number of seconds, at most a year, such as 300")
    return seconds


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("authstate")
    except PackageNotFoundError:
        return "(not installed)"
