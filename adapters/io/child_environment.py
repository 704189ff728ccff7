"""The environment of the programs that authstate starts: its own, without the encryption keys of a database."""

import os
from collections.abc import Mapping
from typing import Final

KEYS_VARIABLE: Final = "AUTHSTATE_DATABASE_KEYS"
"""The environment variable with a list of encryption keys. Commas may stand for its line breaks."""


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child. No child needs the keys, which decrypt the logins of everybody.

    Args:
        environ: the environment to start from; by default that of this process.
    """
    given = os.environ if environ is None else environ
    return {name: value for name, value in given.items() if name != KEYS_VARIABLE}
