"""Which turns of a child a change of the account has ended, and what the person is told."""

from authstate.adapters.child.failed_turns import Explanation
from authstate.adapters.child.held_token import LATE
from authstate.adapters.child.running_turns import RunningTurns
from authstate.engine.model.credentials import ApiKey, PersonalAccessToken
from authstate.engine.model.session import Session
from authstate.engine.ports import Clock


class Interruptions:
    """Remembers the last change of the account, and the turns that were running then.

    Args:
        clock: times the change.
        turns: those that are running.
    """

    def __init__(self, clock: Clock, turns: RunningTurns) -> None:
        self._clock = clock
        self._turns = turns
        self._threads: frozenset[str] = frozenset()
        self._at = float("-inf")
        self._explanation: Explanation | None = None

    def on_account_changed(self, current: Session) -> None:
        """Another account is signed in now, or nobody: the child will lose its login."""
        self._threads = self._turns.threads()
        self._at = self._clock.monotonic()
        self._explanation = _explanation(current)

    def explain(self, thread: str | None) -> Explanation | None:
        """Why a turn of this thread lost its login; None when no change explains it.

        Turns that the child starts in the seconds after the change count, too.
        """
        is_explained = thread in self._threads or self._clock.monotonic() - self._at < LATE
        return self._explanation if is_explained else None


def _explanation(current: Session) -> Explanation:
    """What the person is told when a change to this session ended a turn."""
    when = "here or in another window, while this turn ran"
    if current.credentials is None:
        if current.failure is not None:  # a policy refused the credentials
            return Explanation(current.failure.message, needs_login=True)
        return Explanation(
            f"The account was signed out, {when}. Sign in, then send the message again.", needs_login=True
        )
    if isinstance(current.credentials, PersonalAccessToken):
        return Explanation(
            f"A personal access token was signed in, {when}, and a running app-server cannot take one. Start it again "
            "to use the token.",
            needs_login=True,
        )
    who = "an API key" if isinstance(current.credentials, ApiKey) else str(current.credentials.account)
    return Explanation(
        f"Another account was signed in, {when}: {who}. Send the message again to go on with that account."
    )
