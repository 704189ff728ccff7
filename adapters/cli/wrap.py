"""`authstate wrap`: the child is started first, and everything slow is imported while it starts.

Even the configuration is read after that. A child whose wrapper cannot use it is ended before it was sent a byte.
"""

import os
import sys
from collections.abc import Sequence

from authstate.adapters.child.command import ephemeral_command, overrides_of
from authstate.adapters.child.pinned_store import refuse_pinned_store
from authstate.adapters.child.process import CANNOT_RUN, NOT_FOUND, CannotStart, ChildProcess, propagate_exit
from authstate.adapters.cli.exit_status import print_error
from authstate.adapters.cli.imports import unwatched_imports
from authstate.adapters.config.other_logins import of_command


def wrap(overrides: Sequence[str], command: Sequence[str]) -> int:
    """Be between the front-end at our standard streams and a child, until the child has ended.

    Args:
        overrides: `-c KEY=VALUE` for our own configuration, on top of those in the command.
        command: how the child is started. The setting that keeps it away from auth.json is put in.

    Returns:
        The child's exit status. Where a signal ended the child, this process ends by the same signal.

    Raises:
        CommandError: the command is not one of an app-server on standard input and output.
        ConfigError: the configuration cannot be used: the child was sent nothing. Or a file of the administrator lets
            the child open the stored login: it was not started, or was handed nothing and has ended.
        OSError: standard input or output cannot be used.
    """
    words = ephemeral_command(command)
    said = [*overrides_of(command), *overrides]
    if other := of_command(os.environ, said):
        return _leave_alone(command, other)
    refuse_pinned_store(words, os.environ)
    try:
        child = ChildProcess(words)
    except CannotStart as error:
        return print_error(str(error), error.status)
    try:
        status = _carry(said, child)
    finally:
        child.kill()
    sys.stderr.flush()
    return propagate_exit(status)


def _leave_alone(command: Sequence[str], other: str) -> int:
    """Let the child keep a login that is not managed here: this process becomes the child."""
    print(
        f"authstate: codex acts as {other}, which authstate does not manage: the app-server is not wrapped",
        file=sys.stderr,
        flush=True,
    )
    try:
        if os.name != "nt":
            os.execvp(command[0], list(command))
        import subprocess

        return subprocess.call(list(command))
    except FileNotFoundError:
        return print_error(f"cannot start {command[0]}: there is no such program", NOT_FOUND)
    except OSError as error:
        return print_error(f"cannot start {command[0]}: {(error.strerror or type(error).__name__).lower()}", CANNOT_RUN)


def _carry(overrides: Sequence[str], child: ChildProcess) -> int:
    with unwatched_imports():
        import asyncio

        from authstate.adapters.app_server.server import settings_for_tests
        from authstate.adapters.config import Environment, load_config
        from authstate.adapters.config.settings import ensure_secure_setting
        from authstate.adapters.proxy.wrap import wrap_child

    environment = Environment.read(os.environ, acts_with_key=False)
    config = load_config(environment.home, overrides)
    if config.model_url is not None:  # the child sends its token there
        ensure_secure_setting(config.model_url, "the base URL of the model provider", os.environ)
    return asyncio.run(wrap_child(config, environment, child, settings=settings_for_tests(os.environ)))
