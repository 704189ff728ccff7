"""The turns that a child is running, as its notifications tell."""

import msgspec
from msgspec import Raw

TURN_STARTED = "turn/started"
TURN_COMPLETED = "turn/completed"
TURN_METHODS = frozenset({TURN_STARTED, TURN_COMPLETED})
"""The notifications that `RunningTurns` takes."""
_MAX_TURNS = 1024


class _Params(msgspec.Struct, rename="camel"):
    thread_id: str


class RunningTurns:
    """The threads of a child that run a turn. A thread runs one at a time. At most 1024 are remembered."""

    def __init__(self) -> None:
        self._threads: dict[str, int] = {}  # the number of the turn that a thread runs
        self._started = 0

    def __len__(self) -> int:
        return len(self._threads)

    def threads(self) -> frozenset[str]:
        """The threads whose turns are running."""
        return frozenset(self._threads)

    def numbers(self) -> frozenset[int]:
        """The numbers of the turns that are running. Each turn has another one."""
        return frozenset(self._threads.values())

    def on_notification(self, method: str | None, params: Raw | None) -> None:
        """Take a notification of the child. Ignore those that are not about turns. Never raises."""
        if method not in TURN_METHODS or params is None:
            return
        try:
            thread = msgspec.json.decode(params, type=_Params).thread_id
        except (ValueError, RecursionError):
            return
        if method == TURN_COMPLETED:
            self._threads.pop(thread, None)
        else:
            self._started += 1
            self._threads[thread] = self._started
            if len(self._threads) > _MAX_TURNS:
                self._threads.pop(next(iter(self._threads)))
