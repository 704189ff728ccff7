"""The command line. This file decides what runs and turns an error into one line and an exit status.

    authstate [-c KEY=VALUE]... app-server [--listen stdio://]
    authstate [-c KEY=VALUE]... status | login | logout | token | diagram | demo

`app-server` is told apart by hand, before argparse or anything else that costs start-up time is imported: a front-end
waits for its first answer. Everything else is in `commands.py`.

Exit status: see `cli_exit.py`. Bad input never gives a traceback; a traceback is a bug in authstate.
"""

import os
import sys
from collections.abc import Callable, Sequence

from authstate.adapters.cli_exit import ExitStatus, UsageError, complain

_STDIO = "stdio://"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit status. Never raises for bad input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        overrides = app_server_overrides(arguments)
    except UsageError as error:
        return complain(str(error), ExitStatus.USAGE)
    if overrides is None:
        return guarded(lambda: _run_command(arguments))
    return guarded(lambda: _serve(overrides))


def app_server_overrides(arguments: Sequence[str]) -> list[str] | None:
    """The `-c` overrides of an app-server call; None when it is another command, which argparse then reads.

    Raises:
        UsageError: it is an app-server call that is wrong.
    """
    overrides: list[str] = []
    serving = False
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.partition("=")
        if word in ("-c", "--config", "--listen") and (serving or word != "--listen"):
            if not rest:
                if not serving:
                    return None
                raise UsageError(f"{word} needs a value")
            name, has_value, value = word, "=", rest.pop(0)
        elif word.startswith("-c") and len(word) > 2:
            name, has_value, value = "-c", "=", word[2:].removeprefix("=")
        if has_value and name in ("-c", "--config"):
            overrides.append(value)
        elif has_value and serving and name == "--listen":
            if value != _STDIO:
                raise UsageError(f"--listen {value} is not possible: the only transport is {_STDIO}")
        elif word == "app-server" and not serving:
            serving = True
        elif not serving or word in ("-h", "--help"):
            return None
        else:
            raise UsageError(f"app-server does not know '{word}': it takes -c KEY=VALUE and --listen {_STDIO}")
    return overrides if serving else None


def guarded(run: Callable[[], int]) -> int:
    """Run a command; an error that a person can meet becomes one line on stderr and its exit status."""
    try:
        status = run()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away. Point stdout elsewhere, or the interpreter complains when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.NOT_SIGNED_IN
    except UsageError as error:
        return complain(str(error), ExitStatus.USAGE)
    except Exception as error:
        status_of_error = _status_of(error)
        if status_of_error is None:
            raise
        return complain(str(error) or type(error).__name__, status_of_error)


def _status_of(error: Exception) -> ExitStatus | None:
    """The exit status for an error that a person can meet; None for a bug."""
    from authstate.adapters.config import ConfigError
    from authstate.engine.errors import (
        AuthError,
        LoginFailed,
        PermanentRefreshError,
        PolicyViolation,
        StoreUnreadable,
        TransientAuthError,
    )

    if isinstance(error, ConfigError):
        return ExitStatus.BAD_CONFIGURATION
    if isinstance(error, PermanentRefreshError):
        return ExitStatus.REFRESH_DEAD
    if isinstance(error, TransientAuthError) and not isinstance(error, StoreUnreadable):
        return ExitStatus.TRY_LATER
    if isinstance(error, LoginFailed | PolicyViolation):
        return ExitStatus.LOGIN_REFUSED
    if isinstance(error, AuthError | OSError):
        return ExitStatus.NOT_SIGNED_IN
    return None


def _serve(overrides: list[str]) -> int:
    from authstate.adapters.app_server.stdio import main as serve

    return serve(overrides)


def _run_command(arguments: list[str]) -> int:
    from authstate.adapters.commands import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
