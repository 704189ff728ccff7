"""The login attempt: one try to sign in, as a small table of its own.

At most one attempt is open in an engine. An attempt ends once, with one outcome, in whatever order messages arrive: no
row of the table leaves a final state. While its credentials are being stored, nobody can end it from outside; after
that it has succeeded or failed.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum

from authstate.engine.machines.table import Row, Table, TableMachine
from authstate.engine.machines.words import IGNORED, Words
from authstate.engine.model.errors import LoginAttemptEnded, TransitionRefused
from authstate.engine.model.events import Listeners, LoginCompleted

_OPEN = ("pending", "exchanging")

LOGIN_TABLE = Table(
    name="login_attempt",
    title="Login attempt",
    states=("pending", "exchanging", "succeeded", "failed", "cancelled", "expired", "superseded"),
    initial="pending",
    rows=(
        Row("authorized", ("pending",), "exchanging", "the person agreed at the issuer; the code is exchanged"),
        Row("stored", ("exchanging",), "succeeded", "the new credentials are stored"),
        Row("refused", _OPEN, "failed", "the issuer, a policy or the store refused"),
        Row("cancelled", _OPEN, "cancelled", "the person or the client gave up"),
        Row("timed_out", _OPEN, "expired", "10 minutes (browser) or 15 minutes (device code) are over"),
        Row(
            "superseded",
            _OPEN,
            "superseded",
            "another login, external tokens, a logout or the end of the program came first",
        ),
    ),
)

_OVER = tuple(state for state in LOGIN_TABLE.states if state not in _OPEN)
_ENDS = ("refused", "cancelled", "timed_out", "superseded")
_LIFETIME = "10 minutes (browser) or 15 minutes (device code) since the attempt began; then `timed_out`"

LOGIN_WORDS = Words(
    states={
        "pending": "The person has not agreed at the issuer yet.",
        "exchanging": "The person agreed: the code is exchanged, and what it brings is stored.",
        "succeeded": "The person is signed in.",
        "failed": "The issuer, a policy or the store refused the login.",
        "cancelled": "The person or the client gave up.",
        "expired": "The person did not finish in time.",
        "superseded": "Something else came first.",
    },
    missing="LoginAttemptEnded",
    missing_in={
        ("pending", "stored"): "TransitionRefused",
        **{(state, trigger): IGNORED for state in _OVER for trigger in _ENDS},
    },
    events={"stored": ("LoginCompleted", "AccountUpdated"), **dict.fromkeys(_ENDS, ("LoginCompleted",))},
    timeouts=dict.fromkeys(_OPEN, _LIFETIME),
)


class LoginFlow(StrEnum):
    """How the person signs in."""

    BROWSER = "browser"
    DEVICE_CODE = "device_code"


LIFETIME_SECONDS = {LoginFlow.BROWSER: 600.0, LoginFlow.DEVICE_CODE: 900.0}


class LoginAttempt:
    """One try to sign in. The adapter that runs it reports what happened. Only the table sets `state`.

    Args:
        login_id: its name on the wire, a UUID.
        flow: how the person signs in. It decides how long the attempt may take.
    """

    def __init__(self, login_id: str, flow: LoginFlow, machine: TableMachine, listeners: Listeners) -> None:
        self.login_id = login_id
        self.flow = flow
        self.state: str = LOGIN_TABLE.initial
        self.message: str | None = None
        """Why it ended without a login. None while it is open and after a success."""
        self.is_storing: bool = False
        """Its credentials are being stored, so nobody can end it from outside."""
        self._machine = machine
        self._listeners = listeners
        self._ended = asyncio.Event()
        self._callbacks: list[Callable[[], object]] = []

    @property
    def is_open(self) -> bool:
        """Whether it has no outcome yet."""
        return self.state in _OPEN

    def authorized(self) -> None:
        """Report that the person agreed at the issuer. Raises LoginAttemptEnded if the attempt is over."""
        self._fire("authorized")

    def storing(self) -> None:
        """Report that the credentials are about to be stored. From here on, nobody can end it from outside.

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
        """Report that the new credentials are stored."""
        self._fire("stored")
        self._end()

    def end(self, trigger: str, message: str) -> bool:
        """End it without a login, unless it is over or is storing its credentials. Returns whether it did."""
        if self.is_storing or not self.is_open:
            return False
        self.fail_storing(trigger, message)
        return True

    def fail_storing(self, trigger: str, message: str) -> None:
        """End it without a login while it stores its credentials. Raises LoginAttemptEnded if it is over."""
        self._fire(trigger)
        self.message = message
        self._end()
        self._listeners.emit(LoginCompleted(self.login_id, success=False, error=message))

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Call `callback` once the attempt is over, or at once if it is. The callback must not block."""
        if self.is_open:
            self._callbacks.append(callback)
        else:
            callback()

    async def wait(self) -> None:
        """Return once the attempt is over. Cancellation ends only the wait."""
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
