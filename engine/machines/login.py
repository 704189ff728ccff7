"""The login attempt: what becomes of one try to sign in, as a small table of its own.

At most one attempt is open in an engine. Whatever order messages arrive in, an attempt ends once, with one outcome: the
table has no row that leaves a final state. While its credentials are being stored nobody can end it from outside; then
it succeeds or fails.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum

from authstate.engine.machines.table import Row, Table, TableMachine
from authstate.engine.model.errors import LoginAttemptEnded, TransitionRefused
from authstate.engine.model.events import LoginCompleted
from authstate.engine.model.listeners import Listeners

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
