"""The exit statuses of the command line, and how a command says what went wrong. Costs no start-up time."""

import sys
from enum import IntEnum

HIDDEN = "[hidden]"
_KEY_ADVICE = (
    "What looks like a key or a token is not shown. Give an API key to `authstate login --with-api-key` on standard "
    "input, never as an argument: other users and the history of your shell can see arguments"
)


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


def print_error(message: str, status: int) -> int:
    """Say one clear line on stderr and return the status. What looks like a key or a token is hidden in it."""
    line = without_keys(" ".join(message.split()))
    if line.count(HIDDEN) > message.count(HIDDEN):
        line += f". {_KEY_ADVICE}"
    print(f"authstate: {printable(line)}", file=sys.stderr)
    return status


def without_keys(text: str) -> str:
    """The text without what looks like an API key or a token, and without the value of `..._KEY=` and its like."""
    import re  # imported here: most commands have nothing to complain about

    text = re.sub(r"(?i)([\w-]*(?:token|api[_-]?key|secret|password)=)[^\s]+", rf"\1{HIDDEN}", text)
    text = re.sub(r"eyJ[\w-]{8,}(?:\.[\w-]*)*", HIDDEN, text)
    return re.sub(r"(?<![A-Za-z0-9])(?:sk|rt|at|sess)[-_][\w-]{6,}", HIDDEN, text)


def printable(text: str) -> str:
    """The text without what a terminal would obey: an issuer's words and a token's claims come from outside."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
