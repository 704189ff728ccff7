"""What a browser login and a device login have in common."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from authstate.engine.machines.login_attempt import LoginAttempt


class RunningLogin(Protocol):
    """A browser or device login that was started."""

    @property
    def attempt(self) -> "LoginAttempt":
        """Its progress and outcome."""
        ...

    async def closed(self) -> None:
        """Wait until it is over and has released its tasks, sockets and port. Cancelling only ends the wait."""
