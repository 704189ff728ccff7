"""The auth state machine at work: the table of states.py, its guards and effects, and the current Session."""

from collections.abc import Callable

from authstate.engine.credentials import ChatgptTokens, Credentials, ExternalTokens
from authstate.engine.errors import (
    AuthError,
    ExternalTokensActive,
    ParentUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    TransitionRefused,
)
from authstate.engine.events import StateChanged
from authstate.engine.listeners import Listeners
from authstate.engine.policy import Policy
from authstate.engine.session import Failure, Session
from authstate.engine.states import AUTH_TABLE, AuthState, Trigger
from authstate.engine.table import Table, TableMachine

Fire = Callable[[Trigger, Credentials | Failure | None], None]
"""Pulls a trigger, with what the engine does besides."""

_LOGINS = frozenset({Trigger.USE_API_KEY, Trigger.COMPLETE_CHATGPT_LOGIN})


class AuthMachine:
    """Holds the current Session; only `fire` changes it, and only as the table says.

    Synchronous, no I/O.
    """

    def __init__(self, policy: Policy, listeners: Listeners, table: Table = AUTH_TABLE) -> None:
        self.policy = policy
        self._listeners = listeners
        self.session = Session()
        self.state: str = table.initial
        self._machine = TableMachine(
            table,
            guards={"permitted": self._permitted, "same_account": self._same_account},
            effects={"install": self._install, "forget": self._forget, "refuse": self._refuse, "bury": self._bury},
        )
        self._next: tuple[Credentials | None, Failure | None] = (None, None)

    def fire(self, trigger: Trigger, offer: Credentials | Failure | None = None) -> Session:
        """Pull a trigger, tell the listeners, and return the Session it installed.

        Args:
            trigger: what happened.
            offer: the credentials (install) or the failure (refuse, bury) that it brings.

        Raises:
            TransitionRefused: no row allows it (ExternalTokensActive for a login while a parent owns the tokens).
            AuthError: the guard's reason. In both cases nothing changed.
        """
        try:
            self._machine.fire(self, trigger, offer)
        except TransitionRefused:
            raise self._refused(trigger) from None
        previous = self.session
        credentials, failure = self._next
        self.session = Session(AuthState(self.state), credentials, failure, previous.generation + 1)
        self._listeners.emit(StateChanged(trigger, previous, self.session))
        return self.session

    def check(self, trigger: Trigger, offer: Credentials) -> None:
        """Raise what `fire` would raise, and change nothing: for a login, before anything is stored."""
        if self._machine.table.target(self.state, trigger) is None:
            raise self._refused(trigger)
        if refusal := self._permitted(self, offer):
            raise refusal

    def _refused(self, trigger: Trigger) -> TransitionRefused:
        if self.state == AuthState.EXTERNAL_TOKENS and trigger in _LOGINS:
            return ExternalTokensActive(trigger, self.state)
        return TransitionRefused(trigger, self.state)

    def _permitted(self, _model: object, offer: Credentials) -> AuthError | None:
        return self.policy.violation(offer)

    def _same_account(self, _model: object, offer: ChatgptTokens | ExternalTokens) -> AuthError | None:
        account = self.session.account
        if isinstance(offer, ExternalTokens):
            if account is None or account.account_id in (None, offer.account.account_id):
                return self.policy.violation(offer)
            return ParentUnavailable(
                f"the parent application sent tokens of workspace {offer.account.account_id}, "
                f"and the session belongs to workspace {account.account_id}: start a login to change it"
            )
        if account is None or account.is_same_as(offer.account):
            return None
        return PermanentRefreshError(RefreshDeadReason.ACCOUNT_CHANGED)

    def _install(self, _model: object, offer: Credentials) -> None:
        self._next = (offer, None)

    def _forget(self, _model: object, _offer: None) -> None:
        self._next = (None, None)

    def _refuse(self, _model: object, offer: Failure) -> None:
        self._next = (None, offer)

    def _bury(self, _model: object, offer: Failure) -> None:
        self._next = (self.session.credentials, offer)
