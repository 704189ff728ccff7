"""The exit statuses of the command line, and how an error is printed. Imports nothing that delays the start."""

import sys
from enum import IntEnum

_KEY_ADVICE = (
    "Text that looks like a key or a token is hidden. Give an API key to `authstate login --with-api-key` on standard "
    "input, never as an argument: other users can see arguments, and the shell keeps them in its history"
)


class ExitStatus(IntEnum):
    """What the exit status of every command means."""

    DONE = 0
    """The command succeeded. `status`: somebody is signed in."""
    NOT_SIGNED_IN = 1
    """Nobody is signed in, or the command failed. The line on standard error says why."""
    REFRESH_DEAD = 2
    """The refresh token is dead: sign in again."""
    USAGE = 2
    """The command line is wrong. Programs use 2 for this by convention."""
    BAD_CONFIGURATION = 3
    """config.toml, a `-c` override or an environment variable is invalid."""
    TRY_LATER = 4
    """The issuer or the store is not available now. Nothing is lost."""
    LOGIN_REFUSED = 5
    """`login`: the issuer or the configuration refused it, or the exchange or the store failed. The old login stays."""
    LOGIN_EXPIRED = 6
    """`login`: the sign-in was not finished in time."""
    LOGIN_CANCELLED = 7
    """`login`: the sign-in was cancelled in the browser, or another login replaced it."""
    HUNG_UP = 129
    """SIGHUP: the terminal was closed. A running refresh was finished and stored first."""
    INTERRUPTED = 130
    """Ctrl-C. A running refresh was finished and stored first."""
    TERMINATED = 143
    """SIGTERM. A running refresh was finished and stored first."""


class UsageError(Exception):
    """The command line is wrong. The message says why."""


def print_error(message: str, status: int) -> int:
    """Print a message as one line on standard error, without secrets, and return the status."""
    from authstate.adapters.logs.redaction import HIDDEN, redact_text  # imported here: most commands print no error

    line = redact_text(" ".join(message.split()))
    if line.count(HIDDEN) > message.count(HIDDEN):
        line += f". {_KEY_ADVICE}"
    print(f"authstate: {printable(line)}", file=sys.stderr)
    return status


def printable(text: str) -> str:
    """Replace control characters, which a terminal would execute: an issuer's messages and claims are untrusted."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
