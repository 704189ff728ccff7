"""Which requests passed in one direction and are not answered yet: an answer to anything else is not believed.

The child and the front-end count their ids in number spaces of their own, and both are easy to guess. So without this,
a child could answer the front-end's next account request before authstate does, with a sign-in page of its choice. And
a front-end could answer the child's question for tokens, which it never sees, with tokens of its choice.
"""

from collections import OrderedDict

import msgspec
from msgspec import Raw

MOST_PENDING = 65_536
"""Requests that are remembered. One that is older than so many unanswered ones is forgotten, and so is its answer."""


class PendingRequests:
    """The ids of one direction. An id that is used twice at once must be answered twice."""

    def __init__(self, most: int = MOST_PENDING) -> None:
        self._most = most
        self._counts: OrderedDict[str | bytes, int] = OrderedDict()

    def passed(self, id_: Raw) -> None:
        """A request of this id passed. Costs a dictionary entry."""
        key = _key(id_)
        self._counts[key] = self._counts.pop(key, 0) + 1
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)

    def answered(self, id_: Raw) -> bool:
        """Whether an answer of this id may pass: a request of it did, and was not answered."""
        key = _key(id_)
        count = self._counts.get(key, 0)
        if count > 1:
            self._counts[key] = count - 1
        elif count:
            del self._counts[key]
        return count > 0


def _key(id_: Raw) -> str | bytes:
    """An id as both sides write it: a string may be written with escapes, a number may not."""
    written = bytes(id_)
    if written[:1] != b'"':
        return written
    text: str = msgspec.json.decode(written, type=str)
    return text
