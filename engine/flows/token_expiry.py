"""Tells when the access token in use is about to expire, and when it has expired: once for each token."""

from collections import OrderedDict
from collections.abc import Callable

from authstate.engine.flows.alarm import Alarm
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.model.credentials import ChatgptTokens, ExternalTokens
from authstate.engine.model.events import (
    Event,
    Listeners,
    RefreshStarted,
    StateChanged,
    TokenExpired,
    TokenExpiring,
)
from authstate.engine.model.secret import Secret
from authstate.engine.ports import Clock

_LONGEST_WAIT = 60.0  # seconds until the next look: the wall clock may jump, as when a computer sleeps
_SHORTEST_WAIT = 0.001  # seconds: clocks round
_MOST_TOLD = 64  # access tokens to remember


class TokenExpiry:
    """Emits `TokenExpiring` and `TokenExpired`.

    Args:
        machine: holds the session.
        clock: says whether a token has expired, and measures the time until then.
        window: seconds before the end in which a token is about to expire.
        listeners: get the events.
        is_watched: whether somebody listens who should get them at their moment. Only then there is a timer.
    """

    def __init__(
        self,
        machine: AuthMachine,
        clock: Clock,
        window: float,
        listeners: Listeners,
        is_watched: Callable[[], bool],
    ) -> None:
        self._machine = machine
        self._clock = clock
        self._window = window
        self._listeners = listeners
        self._is_watched = is_watched
        self._alarm = Alarm(clock, self._ring)
        self._expiring = _Told()
        self._expired = _Told()
        self._is_closed = False
        listeners.subscribe(self._on_event)

    def look(self) -> None:
        """Emit what is due by the clock now."""
        if (token := self._token_in_use()) is None:
            return
        access_token, expires_at = token
        left = expires_at - self._clock.now()
        generation = self._machine.session.generation
        if left <= 0:
            self._expiring.add(access_token)  # what has expired is not about to, even if the clock is set back
            if self._expired.add(access_token):
                self._listeners.emit(TokenExpired(expires_at, generation))
        elif left <= self._window and self._expiring.add(access_token):
            self._listeners.emit(TokenExpiring(expires_at, generation))

    def watch(self) -> None:
        """Look again by itself when the next event is due, if somebody listens. It needs a running event loop."""
        if self._is_watched() and not self._is_closed and (wait := self._next_wait()) is not None:
            self._alarm.set(self._clock.monotonic() + min(max(wait, _SHORTEST_WAIT), _LONGEST_WAIT))

    def close(self) -> None:
        """End the timer."""
        self._is_closed = True
        self._alarm.clear()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self.watch()
        elif isinstance(event, RefreshStarted):
            self.look()

    def _ring(self) -> None:
        self.look()
        self.watch()

    def _next_wait(self) -> float | None:
        """Seconds until there may be something to tell. None if nothing is left to tell of this token."""
        if (token := self._token_in_use()) is None:
            return None
        access_token, expires_at = token
        left = expires_at - self._clock.now()
        if left <= 0:
            return None if access_token in self._expired else 0.0
        return left if access_token in self._expiring else left - self._window

    def _token_in_use(self) -> tuple[Secret, float] | None:
        """The access token and when it expires. None if nobody is signed in, or if that is not known."""
        credentials = self._machine.session.credentials
        if not isinstance(credentials, ChatgptTokens | ExternalTokens) or credentials.expires_at is None:
            return None
        return credentials.access_token, credentials.expires_at


class _Told:
    """The last access tokens that an event was emitted for."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[Secret, None] = OrderedDict()

    def __contains__(self, token: Secret) -> bool:
        return token in self._tokens

    def add(self, token: Secret) -> bool:
        """Add a token. Returns whether it is new."""
        if token in self._tokens:
            return False
        self._tokens[token] = None
        if len(self._tokens) > _MOST_TOLD:
            self._tokens.popitem(last=False)
        return True
