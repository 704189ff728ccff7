"""What a browser login and a device login have in common, for those who start either."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from authstate.engine.machines.login import LoginAttempt


class RunningLogin(Protocol):
    """A browser or device login that was started."""

    @property
    def attempt(self) -> "LoginAttempt":
        """How it goes."""
        ...

    async def closed(self) -> None:
        """Return once it is over and holds no task, socket or port any more. Cancellation ends the wait only."""
