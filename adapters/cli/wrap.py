"""`authstate wrap`: starts the child first, and imports everything slow while the child starts.

The configuration is read after that, too. If it is invalid, the child is ended before anything is sent to it.
"""

import os
import sys
from collections.abc import Sequence

from authstate.adapters.child.command_line import ephemeral_command, overrides_of
from authstate.adapters.child.pinned_store import refuse_pinned_store
from authstate.adapters.child.process import ChildNotStarted, PipedChildProcess, propagate_exit
from authstate.adapters.cli.account_in_use import uses_home_account
from authstate.adapters.cli.exec_command import exec_unmanaged
from authstate.adapters.cli.exit_status import print_error
from authstate.adapters.config.unmanaged_logins import find_unmanaged_login
from authstate.adapters.io.fast_imports import paused_gc


def wrap(overrides: Sequence[str], command: Sequence[str]) -> int:
    """Start a child and relay between it and the front-end on our standard streams, until the child has ended.

    Args:
        overrides: `-c KEY=VALUE` for our own configuration. They win over those in the command.
        command: the command of the child. The setting that keeps the child away from auth.json is added.

    Returns:
        The exit status of the child. If a signal ended the child, this process ends with the same signal.

    Raises:
        CommandError: the command does not start an app-server on standard input and output.
        ConfigError: the configuration is invalid, or an administrator's file lets the child open the stored login. The
            child was not started, or was ended before any token was sent to it.
        OSError: standard input or output cannot be used.
    """
    words = ephemeral_command(command)
    said = [*overrides_of(command), *overrides]
    if other := find_unmanaged_login(os.environ, said, uses_home=lambda: uses_home_account(said)):
        return exec_unmanaged(command, other, "the app-server is not wrapped")
    refuse_pinned_store(words, os.environ)
    try:
        child = PipedChildProcess(words)
    except ChildNotStarted as error:
        return print_error(str(error), error.status)
    try:
        status = _relay(said, child)
    finally:
        child.kill()
    sys.stderr.flush()
    return propagate_exit(status)


def _relay(overrides: Sequence[str], child: PipedChildProcess) -> int:
    with paused_gc():
        import asyncio

        from authstate.adapters.app_server.start import settings_for_tests
        from authstate.adapters.config import Environment, load_config
        from authstate.adapters.config.settings import ensure_secure_setting
        from authstate.adapters.logs.program import keep_warnings_on_stderr
        from authstate.adapters.proxy.run import wrap_child

    keep_warnings_on_stderr()
    environment = Environment.read(os.environ, acts_with_key=False)
    config = load_config(environment.home, overrides)
    if config.model_url is not None:  # the child sends its token there
        ensure_secure_setting(config.model_url, "the base URL of the model provider", os.environ)
    return asyncio.run(wrap_child(config, environment, child, settings=settings_for_tests(os.environ)))
