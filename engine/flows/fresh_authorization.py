"""The fast path to a token: the authorization of a session whose token needs neither a refresh nor a question to the
issuer.

Most requests take it. It reads immutable data only, so it works in any thread, without a lock and without waiting.
"""

import msgspec

from authstate.engine.flows.refresh_urgency import fresh_until
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.model.credentials import ChatgptTokens, PersonalAccessToken
from authstate.engine.model.events import Event, Listeners, StateChanged
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.session import Authorization, Session
from authstate.engine.model.states import AuthState
from authstate.engine.ports import Clock

_NEVER = float("inf")


class _Kept(msgspec.Struct, frozen=True):
    """What is known of a session."""

    session: Session
    authorization: Authorization | None = None
    """None if a request needs more than this session."""
    until: float = -_NEVER
    """The authorization is fresh before this time, in seconds since the epoch."""
    expires_at: float = -_NEVER


_NOTHING = _Kept(Session())


class FreshAuthorization:
    """Keeps the authorization of the current session, and says whether it is fresh.

    Args:
        machine: holds the session.
        clock: the wall clock that decides.
        settings: say how long before its expiry a token is refreshed.
        listeners: tell of a new session. What is kept of the one before is then dropped.
    """

    def __init__(self, machine: AuthMachine, clock: Clock, settings: RefreshSettings, listeners: Listeners) -> None:
        self._machine = machine
        self._now = clock.now
        self._settings = settings
        self._kept = _NOTHING
        listeners.subscribe(self._on_event)

    def get(self, min_lifetime: float = 0.0) -> Authorization | None:
        """See `AuthEngine.fresh_authorization`. Safe in any thread."""
        kept = self._kept
        session = self._machine.session
        if kept.session is not session:
            kept = self._keep(session)
        now = self._now()
        return kept.authorization if now < kept.until and now + min_lifetime <= kept.expires_at else None

    def _keep(self, session: Session) -> _Kept:
        kept = self._kept = self._look_at(session)
        if self._machine.session is not session:
            self._kept = _NOTHING  # it changed in between, perhaps before its event could drop this one
        return kept

    def _look_at(self, session: Session) -> _Kept:
        credentials = session.credentials
        if session.state is AuthState.REFRESH_DEAD or credentials is None:
            return _Kept(session)
        if isinstance(credentials, ChatgptTokens):
            until, expires_at = fresh_until(credentials, self._settings), credentials.expires_at
            return _Kept(session, Authorization.of(session), until, _NEVER if expires_at is None else expires_at)
        if isinstance(credentials, PersonalAccessToken) and credentials.account is None:
            return _Kept(session)
        return _Kept(session, Authorization.of(session), _NEVER, _NEVER)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self._kept = _NOTHING
