"""The base of data that holds secrets as plain text, because the wire has them so."""

from typing import Any

import msgspec


class Confidential(msgspec.Struct, frozen=True):
    """A struct whose repr shows none of its members: logs and crash reports print the reprs of local variables."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []
