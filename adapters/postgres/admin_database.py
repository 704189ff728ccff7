"""The database of a command: one connection, no notifications, and time for statements that read every row."""

from typing import Final

from authstate.adapters.postgres.database import PostgresDatabase
from authstate.adapters.postgres.keys import KeyProvider

_ANSWER_WITHIN: Final = 600.0  # seconds


class AdminDatabase(PostgresDatabase):
    """A `PostgresDatabase` for a command that runs once.

    Args:
        url: see `PostgresDatabase`.
        keys: encrypt and decrypt what is stored. They are loaded at their first use.

    Raises DatabaseUrlInvalid.
    """

    _answer_within = _ANSWER_WITHIN

    def __init__(self, url: str, keys: KeyProvider) -> None:
        super().__init__(url, keys, connections=1, listens=False)
