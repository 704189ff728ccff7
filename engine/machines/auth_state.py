"""THE table. Everything that can change the auth state is in this file.

Theory of operation. A login is always in one of five states. Everything that does I/O (signing in, refreshing, the 401
recovery) runs outside the machine and reports its outcome as a trigger. The machine moves to the next state or refuses.
A transient failure is not a trigger, because nothing changed. A trigger that no row allows in the current state is
refused with `TransitionRefused`, never silently corrected.

Each row names a guard, which checks the credentials that the trigger brings, and an effect, which decides what the
session holds afterwards:

    install    the credentials that the trigger brings
    clear      no credentials
    reject     no credentials; the reason is remembered and shown
    mark_dead  the same credentials and account; the reason is remembered and shown
"""

from functools import lru_cache

from authstate.engine.machines.table import Row, Table, TableMachine
from authstate.engine.machines.words import Words
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials, ExternalTokens, PersonalAccessToken
from authstate.engine.model.errors import (
    AuthError,
    ExternalTokensActive,
    ParentUnavailable,
    PermanentRefreshError,
    PolicyViolation,
    RefreshDeadReason,
    TransitionRefused,
)
from authstate.engine.model.events import Listeners, StateChanged
from authstate.engine.model.policy import Policy
from authstate.engine.model.session import Failure, Session
from authstate.engine.model.states import AuthState, Trigger

_OUT, _KEY, _CHATGPT, _EXTERNAL, _DEAD = AuthState

AUTH_TABLE = Table(
    name="auth_state",
    title="Auth state",
    states=tuple(AuthState),
    initial=_OUT,
    rows=(
        Row(
            Trigger.USE_API_KEY,
            (_OUT, _KEY, _CHATGPT, _DEAD),
            _KEY,
            "an API key or a personal access token was given (call, store or environment), or its owner became known",
            guard="permitted",
            effect="install",
        ),
        Row(
            Trigger.COMPLETE_CHATGPT_LOGIN,
            (_OUT, _KEY, _CHATGPT, _DEAD),
            _CHATGPT,
            "a browser or device login finished, or stored tokens were restored",
            guard="permitted",
            effect="install",
        ),
        Row(
            Trigger.USE_EXTERNAL_TOKENS,
            (_OUT, _KEY, _CHATGPT, _EXTERNAL, _DEAD),
            _EXTERNAL,
            "the parent passed tokens in; they live in memory only; a pending login is superseded",
            guard="permitted",
            effect="install",
        ),
        Row(
            Trigger.LOG_OUT,
            (_OUT, _KEY, _CHATGPT, _EXTERNAL, _DEAD),
            _OUT,
            "the person asked, here or in another process; what is stored is removed and revoked",
            effect="clear",
        ),
        Row(
            Trigger.CREDENTIALS_REFUSED,
            (_OUT, _KEY, _CHATGPT, _EXTERNAL, _DEAD),
            _OUT,
            "a policy forbids them; the store is kept as it is, the reason is remembered and shown",
            effect="reject",
        ),
        Row(
            Trigger.TOKENS_REFRESHED,
            (_CHATGPT, _DEAD),
            _CHATGPT,
            "new tokens from the issuer, or found in the store because another process refreshed first",
            guard="same_account",
            effect="install",
        ),
        Row(
            Trigger.TOKENS_REFRESHED,
            (_EXTERNAL,),
            _EXTERNAL,
            "new tokens from the parent",
            guard="same_account",
            effect="install",
        ),
        Row(
            Trigger.REFRESH_REJECTED,
            (_CHATGPT,),
            _DEAD,
            "the issuer refused the refresh token for good, or the store holds another account",
            effect="mark_dead",
        ),
    ),
)

AUTH_WORDS = Words(
    states={
        _OUT: "Nobody is signed in; a refused login leaves its reason here.",
        _KEY: "An API key or a personal access token is in use, and nothing renews it.",
        _CHATGPT: "A person is signed in, and authstate refreshes the tokens.",
        _EXTERNAL: "A parent application owns the tokens, which are in memory only.",
        _DEAD: "The refresh token will never work again; the access token is used until it expires.",
    },
    guards={
        "permitted": "the configuration allows this way to sign in and this workspace",
        "same_account": (
            "the tokens are of the account that is signed in; for tokens of a parent: of the same workspace, if one "
            "is known, and allowed by the configuration"
        ),
    },
    effects={
        "install": "the session holds the credentials that the trigger brings, and no failure",
        "clear": "the session holds no credentials and no failure",
        "reject": "the session holds no credentials, and the reason that the trigger brings",
        "mark_dead": "the session keeps its credentials, and holds the reason that the trigger brings",
    },
    refusals={
        "permitted": ("LoginMethodForbidden", "WorkspaceForbidden"),
        "same_account": ("PermanentRefreshError", "ParentUnavailable", "LoginMethodForbidden", "WorkspaceForbidden"),
    },
    missing_in={
        (_EXTERNAL, Trigger.USE_API_KEY): "ExternalTokensActive",
        (_EXTERNAL, Trigger.COMPLETE_CHATGPT_LOGIN): "ExternalTokensActive",
    },
    events=dict.fromkeys(Trigger, ("StateChanged",)),
)

_LOGINS = frozenset({Trigger.USE_API_KEY, Trigger.COMPLETE_CHATGPT_LOGIN})


class AuthMachine:
    """Holds the current Session. Only `fire` changes it, as the table says. Synchronous, no I/O."""

    def __init__(self, policy: Policy, listeners: Listeners, table: Table = AUTH_TABLE) -> None:
        self.policy = policy
        self._listeners = listeners
        self.session: Session = Session()
        self.state: str = table.initial
        self._machine = self._machine_of(table)
        self._next: tuple[Credentials | None, Failure | None] = (None, None)

    @staticmethod
    @lru_cache(maxsize=16)
    def _machine_of(table: Table) -> TableMachine:
        """The one machine for all sessions of a table. Cached: it is large, and building it is slow."""
        return TableMachine(
            table,
            guards={"permitted": AuthMachine._permitted, "same_account": AuthMachine._same_account},
            effects={
                "install": AuthMachine._install,
                "clear": AuthMachine._clear,
                "reject": AuthMachine._reject,
                "mark_dead": AuthMachine._mark_dead,
            },
        )

    def fire(self, trigger: Trigger, payload: Credentials | Failure | None = None) -> Session:
        """Fire a trigger, tell the listeners, and return the new Session.

        Args:
            trigger: what happened.
            payload: the credentials (install) or the failure (reject, mark_dead) that it brings.

        Raises:
            TransitionRefused: no row allows it (ExternalTokensActive for a login while a parent owns the tokens).
            AuthError: the guard's reason.

        Nothing changed if it raises.
        """
        try:
            self._machine.fire(self, trigger, payload)
        except TransitionRefused:
            raise self._refused(trigger) from None
        previous = self.session
        credentials, failure = self._next
        self.session = Session(AuthState(self.state), credentials, failure, previous.generation + 1)
        self._listeners.emit(StateChanged(trigger, previous, self.session))
        return self.session

    def restore(self, stored: Credentials) -> None:
        """Use credentials that nobody gave just now. If a policy forbids them, remember the reason, once for each."""
        is_static = isinstance(stored, ApiKey | PersonalAccessToken)
        try:
            self.fire(Trigger.USE_API_KEY if is_static else Trigger.COMPLETE_CHATGPT_LOGIN, stored)
        except PolicyViolation as violation:
            if self.session.failure != (refusal := Failure(str(violation))):
                self.fire(Trigger.CREDENTIALS_REFUSED, refusal)

    def check(self, trigger: Trigger, payload: Credentials) -> None:
        """Raise what `fire` would raise, and change nothing. A login calls it before it stores anything."""
        if self._machine.table.target(self.state, trigger) is None:
            raise self._refused(trigger)
        if refusal := self._permitted(payload):
            raise refusal

    def _refused(self, trigger: Trigger) -> TransitionRefused:
        if self.state == AuthState.EXTERNAL_TOKENS and trigger in _LOGINS:
            return ExternalTokensActive(trigger, self.state)
        return TransitionRefused(trigger, self.state)

    def _permitted(self, payload: Credentials) -> AuthError | None:
        return self.policy.violation(payload)

    def _same_account(self, payload: ChatgptTokens | ExternalTokens) -> AuthError | None:
        account = self.session.account
        if isinstance(payload, ExternalTokens):
            if account is None or account.account_id in (None, payload.account.account_id):
                return self.policy.violation(payload)
            return ParentUnavailable(
                f"the parent application sent tokens of workspace {payload.account.account_id}, "
                f"and the session belongs to workspace {account.account_id}: start a login to change it"
            )
        if account is None or account.is_same_as(payload.account):
            return None
        return PermanentRefreshError(RefreshDeadReason.ACCOUNT_CHANGED)

    def _install(self, payload: Credentials) -> None:
        self._next = (payload, None)

    def _clear(self, _payload: None) -> None:
        self._next = (None, None)

    def _reject(self, payload: Failure) -> None:
        self._next = (None, payload)

    def _mark_dead(self, payload: Failure) -> None:
        self._next = (self.session.credentials, payload)
