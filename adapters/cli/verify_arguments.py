"""The arguments of `authstate verify`."""

import argparse
from collections.abc import Callable
from pathlib import Path

VERIFY = """Check a server of the account API: start it with a home, an issuer and a backend of its own, send it
histories of requests, and compare what it answers, tells and stores with a model: `authstate verify -- codex
app-server`. Exit status: 0 every check passed or differs as documented, 1 a check failed, 2 the server cannot be run or
the command line is wrong."""


def add_verify(commands: object, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    verify = add_command(commands, "verify", "check a server of the account API, and report", VERIFY)
    verify.usage = (
        "authstate verify [--steps N] [--runs N] [--seed S] [--jobs N] [--json] [--report FILE] -- COMMAND..."
    )
    verify.add_argument("--steps", metavar="N", type=_count, default=12, help="the most actions of a generated history")
    verify.add_argument(
        "--runs", metavar="N", type=_count, default=20, help="how many histories are generated; 0: none"
    )
    verify.add_argument("--seed", metavar="S", type=int, default=0, help="another seed generates other histories")
    verify.add_argument("--jobs", metavar="N", type=_positive, default=1, help="how many fixed histories run at once")
    verify.add_argument("--json", action="store_true", help="print the report as one JSON object")
    verify.add_argument("--report", metavar="FILE", type=Path, help="write the report to a file instead")
    verify.add_argument("--slow", action="store_true", help="also wait for time limits of the server: 10 s and more")
    verify.add_argument("--history", metavar="ACTIONS", help="run only this history, as a report names it")
    verify.add_argument("child", metavar="COMMAND", nargs="+", help="after --: the command that starts the server")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a whole number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)
