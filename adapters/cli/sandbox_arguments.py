"""The arguments of `sandbox`."""

import argparse
from typing import Any

_SANDBOX = """Run an issuer, a backend and a model for tests on 127.0.0.1, with a control API and a page. It prints what
points codex, authstate and the tests of a front-end at it, and runs until Ctrl-C or SIGTERM. With -- and a command, it
runs the command in that environment, and its exit status is that of the command."""


def add_sandbox(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `sandbox`. It reads no configuration, so it takes no `-c`, and `--account` names somebody who can sign in."""
    sandbox: argparse.ArgumentParser = commands.add_parser(
        "sandbox",
        help="run an issuer, a backend and a model for tests of a front-end",
        description=_SANDBOX,
        usage="authstate sandbox [--port N] [--account NAME]... [--signed-in NAME] "
        "[--format text|env|json] [--until-eof] [-- COMMAND...]",
    )
    sandbox.set_defaults(command_overrides=[])
    sandbox.add_argument("--port", metavar="N", type=_port, default=0, help="of 127.0.0.1; by default any free one")
    sandbox.add_argument(
        "--account",
        dest="names",
        metavar="NAME",
        action="append",
        default=[],
        help="a name or an email of somebody who can sign in; by default ada and bob",
    )
    sandbox.add_argument("--signed-in", metavar="NAME", help="sign this account in to the temporary CODEX_HOME")
    sandbox.add_argument(
        "--format", choices=("text", "env", "json"), default="text", help="how to print what points a program at it"
    )
    sandbox.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    sandbox.add_argument(
        "--until-eof",
        action="store_true",
        help="end when standard input closes: the program that started it has ended",
    )
    sandbox.add_argument("child", metavar="COMMAND", nargs="*", help="after --: the command that runs in the sandbox")


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 65_536:
        return int(text)
    raise argparse.ArgumentTypeError("must be a port, from 0 to 65535")
