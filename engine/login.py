"""The login attempt: what becomes of one try to sign in, as a small table of its own.

At most one attempt is open in an engine. Whatever order messages arrive in, an attempt ends once, with one outcome: the
table has no row that leaves a final state. While its credentials are being stored nobody can end it from outside; then
it succeeds or fails.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum

from authstate.engine.errors import LoginAttemptEnded, TransitionRefused
from authstate.engine.events import LoginCompleted
from authstate.engine.listeners import Listeners
from authstate.engine.ports import Clock
from authstate.engine.table import Row, Table, TableMachine, shared_machine

_OPEN = ("pending", "exchanging")

LOGIN_TABLE = Table(
    name="login_attempt",
    title="Login attempt",
    states=("pending", "exchanging", "succeeded", "failed", "cancelled", "expired", "superseded"),
    initial="pending",
    rows=(
        Row("authorized", ("pending",), "exchanging", "the person agreed at the issuer; the code is exchanged"),
        Row("stored", ("exchanging",), "succeeded", "the new credentials are stored"),
        Row("refused", _OPEN, "failed", "the issuer, a policy or the store said no"),
        Row("cancelled", _OPEN, "cancelled", "the person or the client gave up"),
        Row("timed_out", _OPEN, "expired", "10 minutes (browser) or 15 (device code) are over"),
        Row("superseded", _OPEN, "superseded", "a second login, external tokens, a logout or the end of the program"),
    ),
)


class LoginKind(StrEnum):
    """How the person signs in."""

    BROWSER = "browser"
    DEVICE_CODE = "device_code"


LIFETIME_SECONDS = {LoginKind.BROWSER: 600.0, LoginKind.DEVICE_CODE: 900.0}


class LoginAttempt:
    """One try to sign in. The adapter that runs it reports what happened; `state` is set by the table alone.

    Args:
        login_id: its name on the wire, a UUID.
        kind: how the person signs in; it decides how long the attempt lives.
    """

    def __init__(self, login_id: str, kind: LoginKind, machine: TableMachine, listeners: Listeners) -> None:
        self.login_id = login_id
        self.kind = kind
        self.state: str = LOGIN_TABLE.initial
        self.message: str | None = None
        """Why it ended without a login; None while it is open and after a success."""
        self.is_storing = False
        """Its credentials are being stored: nobody can end it from outside."""
        self._machine = machine
        self._listeners = listeners
        self._ended = asyncio.Event()
        self._callbacks: list[Callable[[], object]] = []

    @property
    def is_open(self) -> bool:
        """Whether it has no outcome yet."""
        return self.state in _OPEN

    def authorized(self) -> None:
        """The person agreed at the issuer. Raises LoginAttemptEnded when the attempt is over."""
        self._fire("authorized")

    def storing(self) -> None:
        """From here on nobody can end it from outside; the engine reports it.

        Raises:
            LoginAttemptEnded: it was over before.
            TransitionRefused: the person has not agreed yet.
        """
        if not self.is_open:
            raise LoginAttemptEnded(self.message or f"this login attempt is over: it {self.state}")
        if self.state != "exchanging":
            raise TransitionRefused("stored", self.state)
        self.is_storing = True

    def stored(self) -> None:
        """The new credentials are stored; the engine reports it."""
        self._fire("stored")
        self._end()

    def end(self, trigger: str, message: str) -> bool:
        """End without a login, unless it is over or its credentials are being stored. Tells whether it ended it."""
        if self.is_storing or not self.is_open:
            return False
        self.fail_storing(trigger, message)
        return True

    def fail_storing(self, trigger: str, message: str) -> None:
        """End without a login, for the one who stores. Raises LoginAttemptEnded when the attempt is over."""
        self._fire(trigger)
        self.message = message
        self._end()
        self._listeners.emit(LoginCompleted(self.login_id, success=False, error=message))

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Call back once it is over, whatever the outcome; at once if it is over already. Must not block."""
        if self.is_open:
            self._callbacks.append(callback)
        else:
            callback()

    async def wait(self) -> None:
        """Return once it is over. Cancellation ends the wait only."""
        await self._ended.wait()

    def _fire(self, trigger: str) -> None:
        try:
            self._machine.fire(self, trigger)
        except TransitionRefused:
            raise LoginAttemptEnded(self.message or f"this login attempt is over: it {self.state}") from None

    def _end(self) -> None:
        self.is_storing = False
        self._ended.set()
        for callback in self._callbacks:
            callback()
        self._callbacks.clear()


class Logins:
    """Holds the one open attempt, and ends it when its time is over or something else comes first."""

    def __init__(self, clock: Clock, listeners: Listeners) -> None:
        self._clock = clock
        self._listeners = listeners
        self._machine = shared_machine(LOGIN_TABLE)
        self._current: LoginAttempt | None = None
        self._timer: asyncio.Task[None] | None = None

    @property
    def current(self) -> LoginAttempt | None:
        """The open attempt, if there is one."""
        return self._current if self._current is not None and self._current.is_open else None

    def begin(self, login_id: str, kind: LoginKind) -> LoginAttempt:
        """Open an attempt; the one that was open is superseded. It must not be storing: wait for it first."""
        self.supersede("another login was started")
        attempt = LoginAttempt(login_id, kind, self._machine, self._listeners)
        self._current = attempt
        timer = asyncio.create_task(self._expire(attempt))
        attempt.when_ended(timer.cancel)
        return attempt

    def supersede(self, why: str) -> None:
        """End the open attempt because something else came first."""
        if self._current is not None:
            self._current.end("superseded", f"this login was ended: {why}")

    async def cancel(self, login_id: str) -> bool:
        """End an attempt because the person or the client gave up. Tells whether it was open.

        An attempt whose credentials are being stored is waited for: it has another outcome.
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
        lifetime = LIFETIME_SECONDS[attempt.kind]
        await self._clock.sleep(lifetime)
        attempt.end("timed_out", f"the login was not completed within {lifetime / 60:.0f} minutes: start it again")
