"""Runs a command as it would run without authstate, because its codex uses a login that nobody can give to it."""

import os
import sys
from collections.abc import Sequence

from authstate.adapters.child.process import CANNOT_RUN, NOT_FOUND
from authstate.adapters.cli.exit_status import print_error
from authstate.adapters.io.child_environment import child_environment
from authstate.adapters.stores.unmanaged_records import OtherLogin


def exec_unmanaged(command: Sequence[str], other: OtherLogin, consequence: str) -> int:
    """Say why on standard error, and replace this process by the command. On Windows, run it and return its status.

    Args:
        command: the program and its arguments.
        other: the login that codex uses.
        consequence: what is not done: the end of a sentence.

    Returns:
        See `exec_command`.
    """
    said = f"authstate: codex uses {other} by itself: {consequence}"
    print(said, file=sys.stderr, flush=True)
    return exec_command(command)


def exec_command(command: Sequence[str]) -> int:
    """Replace this process by a command. On Windows, run it and return its status. It gets no encryption key.

    Args:
        command: the program and its arguments.

    Returns:
        The exit status, if the command cannot be started: 127 or 126, as in a shell.
    """
    try:
        if os.name != "nt":
            os.execvpe(command[0], list(command), child_environment())
        import subprocess

        return subprocess.call(list(command), env=child_environment())
    except FileNotFoundError:
        return print_error(f"cannot start {command[0]}: there is no such program", NOT_FOUND)
    except OSError as error:
        return print_error(f"cannot start {command[0]}: {(error.strerror or type(error).__name__).lower()}", CANNOT_RUN)
