"""Which requests passed in one direction and are not answered yet: an answer to anything else does not pass.

The child and the front-end number their requests independently, and both numberings are easy to guess. Without this, a
child could answer the front-end's next account request before authstate does, with a sign-in page of its choice. And a
front-end could answer the child's refresh request, which it never sees, with tokens of its choice.
"""

from collections import OrderedDict

import msgspec
from msgspec import Raw

MAX_PENDING = 65_536
"""Requests that are remembered. The oldest one beyond that is forgotten, and its answer does not pass."""


class PendingRequests:
    """The ids of one direction. An id that is in use twice can be answered twice."""

    def __init__(self, most: int = MAX_PENDING) -> None:
        self._most = most
        self._counts: OrderedDict[str | bytes, int] = OrderedDict()

    def add(self, id_: Raw) -> None:
        """A request with this id passed."""
        key = _key(id_)
        self._counts[key] = self._counts.pop(key, 0) + 1
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)

    def remove(self, id_: Raw) -> bool:
        """An answer with this id comes. Return whether it may pass: a request with the id passed and is unanswered."""
        key = _key(id_)
        count = self._counts.get(key, 0)
        if count > 1:
            self._counts[key] = count - 1
        elif count:
            del self._counts[key]
        return count > 0


def _key(id_: Raw) -> str | bytes:
    """Return the id in one form: a string may be written with escapes, a number in one way only."""
    written = bytes(id_)
    if written[:1] != b'"':
        return written
    text: str = msgspec.json.decode(written, type=str)
    return text
