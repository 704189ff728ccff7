"""The exit statuses of the command line, and how a command says what went wrong. Costs no start-up time."""

import sys
from enum import IntEnum


class ExitStatus(IntEnum):
    """What the exit status of every command means."""

    DONE = 0
    """It worked. `status`: somebody is signed in."""
    NOT_SIGNED_IN = 1
    """Nobody is signed in, or the command failed: the line on stderr says why."""
    REFRESH_DEAD = 2
    """The refresh token is dead: sign in again."""
    USAGE = 2
    """The command line is wrong: programs use 2 for that, and no correct call of a command gives it for this reason."""
    BAD_CONFIGURATION = 3
    """config.toml, a `-c` override or an environment variable cannot be used."""
    TRY_LATER = 4
    """Nothing is lost: the issuer or the store could not be used just now."""
    LOGIN_REFUSED = 5
    """`login`: the issuer or the configuration refused it, or the exchange or the store failed. The old login works."""
    LOGIN_EXPIRED = 6
    """`login`: the person did not finish in time."""
    LOGIN_CANCELLED = 7
    """`login`: it was cancelled in the browser, or another login took its place."""
    HUNG_UP = 129
    """SIGHUP: the terminal is gone. A refresh that was under way was finished and stored first."""
    INTERRUPTED = 130
    """Ctrl-C. A refresh that was under way was finished and stored first."""
    TERMINATED = 143
    """SIGTERM. A refresh that was under way was finished and stored first."""


class UsageError(Exception):
    """The command line is wrong. The message says how."""


def complain(message: str, status: int) -> int:
    """Say one clear line on stderr and return the status."""
    print(f"authstate: {printable(' '.join(message.split()))}", file=sys.stderr)
    return status


def printable(text: str) -> str:
    """The text without what a terminal would obey: an issuer's words and a token's claims come from outside."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
