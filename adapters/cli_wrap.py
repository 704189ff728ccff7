"""`authstate wrap`: the child is started first, and everything slow is imported while it starts."""

import os
import sys
from collections.abc import Sequence

from authstate.adapters.cli_exit import complain
from authstate.adapters.config import ConfigError, Environment, load_config
from authstate.adapters.parent.child import ephemeral_command, overrides_of
from authstate.adapters.parent.child_process import CannotStart, ChildProcess, end_like


def wrap(overrides: Sequence[str], command: Sequence[str]) -> int:
    """Be between the front-end at our standard streams and a child, until the child has ended.

    Args:
        overrides: `-c KEY=VALUE` for our own configuration, on top of those in the command.
        command: how the child is started. The setting that keeps it away from auth.json is put in.

    Returns:
        The child's exit status. Where a signal ended the child, this process ends by the same signal.

    Raises:
        CommandError: the command is not one of an app-server on standard input and output.
        ConfigError: the configuration cannot be used; nothing was started.
    """
    words = ephemeral_command(command)
    environment = Environment.read(os.environ)
    config = load_config(environment.home, [*overrides_of(command), *overrides])
    try:
        child = ChildProcess(words)
    except CannotStart as error:
        return complain(str(error), error.status)
    import asyncio

    from authstate.adapters.app_server.stdio import test_settings
    from authstate.adapters.parent.wrap import carry

    try:
        status = asyncio.run(carry(config, environment, child, settings=test_settings(os.environ)))
    except (ConfigError, OSError):
        child.kill()
        raise
    sys.stderr.flush()
    return end_like(status)
