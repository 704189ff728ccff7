"""Which turns of a child a change of the login has ended, and what their persons are told."""

from authstate.adapters.child.failed_turns import Explanation
from authstate.adapters.child.token_requests import LATE, Turns
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.session import Session
from authstate.engine.ports import Clock


class Interruptions:
    """Remembers the last change of the account, and the turns that ran when it came.

    Args:
        clock: for how long a turn may be told of late.
        turns: those that run.
    """

    def __init__(self, clock: Clock, turns: Turns) -> None:
        self._clock = clock
        self._turns = turns
        self._threads: frozenset[str] = frozenset()
        self._at = float("-inf")
        self._explanation: Explanation | None = None

    def changed(self, current: Session) -> None:
        """Another account is signed in now, or none: the child will lose its login."""
        self._threads = self._turns.threads()
        self._at = self._clock.monotonic()
        self._explanation = _explanation(current)

    def why(self, thread: str | None) -> Explanation | None:
        """Why a turn of this thread lost its login; None where no change explains it.

        A turn whose start the child told of just after the change counts, too.
        """
        is_explained = thread in self._threads or self._clock.monotonic() - self._at < LATE
        return self._explanation if is_explained else None


def _explanation(current: Session) -> Explanation:
    """What a person is told whose turn was ended by a change to this session."""
    when = "here or in another window, while this turn ran"
    if current.credentials is None:
        if current.failure is not None:  # a policy refused the credentials
            return Explanation(current.failure.message, needs_login=True)
        return Explanation(
            f"The account was signed out, {when}. Sign in, then send the message again.", needs_login=True
        )
    who = "an API key" if isinstance(current.credentials, ApiKey) else str(current.credentials.account)
    return Explanation(
        f"Another account was signed in, {when}: {who}. Send the message again to go on with that account."
    )
