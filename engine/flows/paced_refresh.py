"""A background refresh that a pacer lets begin later, as that of one of many accounts."""

from collections.abc import Callable

from authstate.engine.ports import RefreshPacer


class PacedRefresh:
    """At most one background refresh that has not begun yet."""

    def __init__(self) -> None:
        self.pacer: RefreshPacer | None = None
        """Chooses when a background refresh begins. None: at once."""
        self._withdraw: Callable[[], None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a refresh waits for its turn."""
        return self._withdraw is not None

    def begin(self, spare: float, start: Callable[[], None]) -> None:
        """Call `start` at once, or when the pacer says. One that waits already stays where it is.

        Args:
            spare: seconds for which it may wait.
            start: begins the refresh.
        """

        def start_now() -> None:
            self._withdraw = None
            start()

        if self.pacer is None:
            start()
        elif self._withdraw is None:
            self._withdraw = self.pacer.pace(spare, start_now)

    def withdraw(self) -> None:
        """End the wait, if there is one: the refresh is not needed any more, or begins now."""
        if self._withdraw is not None:
            self._withdraw()
            self._withdraw = None
