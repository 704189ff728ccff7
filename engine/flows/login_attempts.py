"""The one open login attempt of an engine: started, superseded, cancelled or expired."""

import asyncio

from authstate.engine.machines.login_attempt import LIFETIME_SECONDS, LOGIN_TABLE, LoginAttempt, LoginFlow
from authstate.engine.machines.table import shared_machine
from authstate.engine.model.events import Listeners
from authstate.engine.ports import Clock


class LoginAttempts:
    """Holds the one open attempt. Ends it when its time is over or something else comes first."""

    def __init__(self, clock: Clock, listeners: Listeners) -> None:
        self._clock = clock
        self._listeners = listeners
        self._machine = shared_machine(LOGIN_TABLE)
        self._current: LoginAttempt | None = None

    @property
    def current(self) -> LoginAttempt | None:
        """The open attempt, if there is one."""
        return self._current if self._current is not None and self._current.is_open else None

    def begin(self, login_id: str, flow: LoginFlow) -> LoginAttempt:
        """Open an attempt. An attempt that is open is superseded; it must not be storing, so await `settled` first."""
        self.supersede("another login was started")
        attempt = LoginAttempt(login_id, flow, self._machine, self._listeners)
        self._current = attempt
        timer = asyncio.create_task(self._expire(attempt))
        attempt.when_ended(timer.cancel)
        return attempt

    def supersede(self, why: str) -> None:
        """End the open attempt because something else came first."""
        if self._current is not None:
            self._current.end("superseded", f"this login was ended: {why}")

    async def cancel(self, login_id: str) -> bool:
        """End an attempt because the person or the client gave up. Returns whether it was open.

        An attempt that is storing its credentials is not cancelled but waited for: it succeeds or fails.
        """
        attempt = self.current
        if attempt is None or attempt.login_id != login_id:
            return False
        if attempt.is_storing:
            await attempt.wait()
            return False
        return attempt.end("cancelled", "the login was cancelled")

    async def settled(self) -> None:
        """Return once no attempt is storing its credentials."""
        if self._current is not None and self._current.is_storing:
            await self._current.wait()

    async def _expire(self, attempt: LoginAttempt) -> None:
        lifetime = LIFETIME_SECONDS[attempt.flow]
        await self._clock.sleep(lifetime)
        attempt.end("timed_out", f"the login was not completed within {lifetime / 60:.0f} minutes: start it again")
