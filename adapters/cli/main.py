"""The command line: decides what runs, and turns an error into one line and an exit status.

    authstate app-server [--listen stdio://]
    authstate wrap -- codex app-server
    authstate run -- COMMAND...
    authstate verify -- COMMAND...
    authstate status | login | logout | token | diagram | report | demo | sandbox

Each takes `--account NAME` and `-c KEY=VALUE`, any number of times, before and after its name.

A front-end waits for the first answer of `app-server` and `wrap`. So their arguments are read here, without argparse
and other imports that delay the start. The other commands are in `commands.py`.

The exit statuses are in `exit_status.py`. Bad input never prints a traceback; a traceback is a bug in authstate.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence

from authstate.adapters.cli.exit_status import ExitStatus, UsageError, print_error
from authstate.adapters.config.override_arguments import ACCOUNT, split_overrides
from authstate.adapters.io.fast_imports import OPENSSL, load_late, paused_gc

_STDIO = "stdio://"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, without the name of the program, and return its exit status. Bad input raises nothing.

    A closed standard stream is replaced by the null device.
    """
    replace_closed_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        overrides = parse_app_server(arguments)
        wrapped = parse_command(arguments, "wrap", "codex app-server") if overrides is None else None
        command = parse_command(arguments, "run", 'codex exec "..."') if overrides is None else None
    except UsageError as error:
        return print_error(str(error), ExitStatus.USAGE)
    if overrides is not None:
        return report_errors(lambda: _serve(overrides))
    if wrapped is not None:
        return report_errors(lambda: _wrap(*wrapped))
    if command is not None:
        return report_errors(lambda: _run(*command))
    return report_errors(lambda: _run_command(arguments))


def replace_closed_streams() -> None:
    """Open the null device for each closed standard stream. Otherwise the next open file gets its descriptor."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def parse_app_server(arguments: Sequence[str]) -> list[str] | None:
    """Read the arguments of `app-server`.

    Returns:
        Its `-c` overrides. None for another command or for `--help`, which argparse reads.

    Raises:
        UsageError: an argument is wrong.
    """
    overrides, rest = split_overrides(arguments)
    if rest[:1] != ["app-server"]:
        return None
    rest = rest[1:]
    while rest:
        more, rest = split_overrides(rest)
        overrides += more
        if not rest:
            break
        word = rest.pop(0)
        name, _, value = word.partition("=")
        if word in ("-h", "--help"):
            return None
        if word in ("-c", "--config", "--listen", ACCOUNT):
            if not rest:
                raise UsageError(f"{word} needs a value")
            value = rest.pop(0)
        elif name != "--listen" and word != "--stdio":
            raise UsageError(
                f"unknown argument '{word}': app-server takes --account NAME, -c KEY=VALUE and --listen {_STDIO}"
            )
        if name == "--listen" and value != _STDIO:
            raise UsageError(f"--listen {value} is not supported: the only transport is {_STDIO}")
    return overrides


def parse_command(arguments: Sequence[str], name: str, example: str) -> tuple[list[str], list[str]] | None:
    """Read the arguments of `wrap` or `run`, which take the command of a child.

    Args:
        arguments: the command line.
        name: which of the two is meant.
        example: the command of a child, for an error message.

    Returns:
        Its `-c` overrides, and the command of the child, unchanged. None for another command or for `--help`, which
        argparse reads.

    Raises:
        UsageError: an argument is wrong, or there is no command.
    """
    overrides, rest = split_overrides(arguments)
    if rest[:1] != [name]:
        return None
    more, command = split_overrides(rest[1:])
    if command[:1] == ["--"]:
        command = command[1:]
    elif command[:1] in (["-h"], ["--help"]):
        return None
    elif command and command[0].startswith("-"):
        raise UsageError(f"unknown argument '{command[0]}' of {name}: write `authstate {name} -- {example}`")
    if not command:
        raise UsageError(f"{name} needs a command: write `authstate {name} -- {example}`")
    return overrides + more, command


def report_errors(run: Callable[[], int]) -> int:
    """Run a command and return its exit status. Print an expected error as one line on standard error.

    Raises:
        Exception: a bug, unchanged.
    """
    try:
        status = run()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has exited. Replace stdout, or the interpreter reports an error when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.NOT_SIGNED_IN
    except UsageError as error:
        return print_error(str(error), ExitStatus.USAGE)
    except Exception as error:
        status_of_error = _status_of(error)
        if status_of_error is None:
            raise
        return print_error(_message_of(error), status_of_error)


def _message_of(error: Exception) -> str:
    """Return the message of an error. For an OSError: the file and the reason, without the error number."""
    if isinstance(error, OSError) and error.strerror:
        place = error.filename if isinstance(error.filename, str) else "standard input or output"
        return f"cannot use {place}: {error.strerror.lower()}"
    return str(error) or type(error).__name__


def _status_of(error: Exception) -> ExitStatus | None:
    """Return the exit status for an expected error, None for a bug."""
    from authstate.adapters.child.command_line import CommandError
    from authstate.adapters.config import ConfigError
    from authstate.engine.model.errors import (
        AuthError,
        LoginFailed,
        PermanentRefreshError,
        PolicyViolation,
        StoreUnreadable,
        TransientAuthError,
    )

    if isinstance(error, ConfigError):
        return ExitStatus.BAD_CONFIGURATION
    if isinstance(error, CommandError):
        return ExitStatus.USAGE
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
    load_late(*OPENSSL)
    with paused_gc():
        from authstate.adapters.app_server.start import main as serve
    return serve(overrides)


def _wrap(overrides: list[str], command: list[str]) -> int:
    from authstate.adapters.cli.wrap import wrap

    return wrap(overrides, command)


def _run(overrides: list[str], command: list[str]) -> int:
    from authstate.adapters.cli.run import run

    return run(overrides, command)


def _run_command(arguments: list[str]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An email or a path may have a character that the encoding lacks. Escape it, as stderr does by default.
        sys.stdout.reconfigure(errors="backslashreplace")
    from authstate.adapters.cli.commands import run
    from authstate.adapters.logs.program import keep_warnings_on_stderr

    keep_warnings_on_stderr()
    return run(arguments)
