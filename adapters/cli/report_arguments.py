"""The arguments of `authstate report`."""

import argparse
from collections.abc import Callable
from pathlib import Path

_REPORT = """Say what happened to the login of a home: why it died, what failed, and who did what when. The report is
made of the home's journal, and holds no token, no key and no email: attach it to a bug report. Exit status: 0 done, 1 a
step is not as the state tables say, 3 the configuration is wrong."""


def add_report(commands: object, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    report = add_command(commands, "report", "say what happened to the login, for a bug report", _REPORT)
    report.add_argument("--home", metavar="DIR", type=Path, help="the home, instead of CODEX_HOME or ~/.codex")
    report.add_argument("--json", action="store_true", help="one JSON object with all lines, instead of Markdown")
    report.add_argument("--output", metavar="FILE", type=Path, help="write it to this file, and print a summary")
    report.add_argument("--with-email", action="store_true", help="also name the emails of the logins that are stored")
