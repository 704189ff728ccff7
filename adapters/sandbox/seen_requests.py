"""The requests that a sandbox has seen, and a wait for the next change."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

MOST_KEPT: Final = 10_000
"""Requests. Older ones are forgotten."""


class SeenRequest(msgspec.Struct, rename="camel"):
    """A request. It changes once, when it is over."""

    number: int
    at: float
    """When it arrived, in seconds since the epoch."""
    method: str
    path: str
    """Without the query."""
    endpoint: str
    account: str | None
    """The name of the account whose token or code it carried. None if that is not known."""
    token: str | None
    """The fingerprint of the access token or refresh token that it carried."""
    revision: int = 0
    """Of the sandbox, when this request changed last."""
    fault: str | None = None
    status: int | None = None
    """None: it was not answered, or is not answered yet."""
    is_over: bool = False


class SeenRequests:
    """The requests in order, and a number that grows with each change of the sandbox. Use it with the lock held.

    Args:
        lock: of the sandbox. `wait` releases it.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._changed = threading.Condition(lock)
        self._seen: deque[SeenRequest] = deque(maxlen=MOST_KEPT)
        self._last_number = 0
        self.revision: int = 0
        """Grows with each change."""

    def note_change(self) -> int:
        """Count a change of the sandbox, wake who waits for one, and return the new revision."""
        self.revision += 1
        self._changed.notify_all()
        return self.revision

    def begin(self, method: str, path: str, endpoint: str, account: str | None, token: str | None) -> SeenRequest:
        """Add a request that has arrived."""
        self._last_number += 1
        seen = SeenRequest(self._last_number, time.time(), method, path, endpoint, account, token)
        seen.revision = self.note_change()
        self._seen.append(seen)
        return seen

    def note_fault(self, fault: str) -> None:
        """Note the fault of the request that has just arrived."""
        self._seen[-1].fault = fault

    def note_fault_of(self, token: str, fault: str) -> None:
        """Note the fault of the newest request that carries this token and is not over. It keeps one that it has."""
        for seen in reversed(self._seen):
            if seen.token == token and not seen.is_over:
                seen.fault = seen.fault or fault
                return

    def finish(self, seen: SeenRequest, status: int | None) -> None:
        """Note that a request is over, with its status. None: the connection was reset."""
        seen.status, seen.is_over = status, True
        seen.revision = self.note_change()

    def since(self, revision: int) -> Sequence[SeenRequest]:
        """Return the requests that arrived or changed after a revision."""
        return [seen for seen in self._seen if seen.revision > revision]

    @property
    def oldest(self) -> int:
        """The number of the oldest request that is kept; that of the next one if there is none."""
        return self._seen[0].number if self._seen else self._last_number + 1

    def wait(self, revision: int, seconds: float) -> None:
        """Wait until the revision is larger than this, at most for `seconds`."""
        self._changed.wait_for(lambda: self.revision > revision, seconds)

    def clear(self) -> None:
        """Forget all requests. Their numbers and the revision go on."""
        self._seen.clear()
        self.note_change()
