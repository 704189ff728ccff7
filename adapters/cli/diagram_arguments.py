"""The arguments of `authstate diagram`."""

import argparse
from collections.abc import Callable
from pathlib import Path

DIAGRAM = """Write the diagrams of the state tables, and a page to walk through them, to DIR; or check them; or say what
differs between two versions of the tables; or write them for XState. Exit status: 0 done, 1 a diagram is out of date or
a table differs, 2 a revision cannot be read or the command line is wrong."""


def add_diagram(commands: object, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    diagram = add_command(
        commands, "diagram", "write the diagrams of the state tables, or compare two versions", DIAGRAM
    )
    action = diagram.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    action.add_argument(
        "--diff",
        metavar="REV",
        nargs="+",
        help="compare the tables of a git revision with those that run, or of two revisions with each other",
    )
    action.add_argument("--xstate", metavar="DIR", type=Path, help="write each table as a machine of XState 5, in JSON")
    diagram.add_argument("--html", metavar="FILE", type=Path, help="write or check only the page of all tables")
    form = diagram.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="with --diff: as a comment for a pull request")
    form.add_argument("--json", action="store_true", help="with --diff: as one JSON object")
    diagram.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, default=Path("diagrams"), help="by default: diagrams"
    )
