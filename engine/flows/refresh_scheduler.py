"""RefreshScheduler keeps a managed login fresh: when to refresh, the task that all callers share, and its result.

How a refresh works is in refresh.py; what the outcome means for the state is in states.py.
"""

import asyncio
from collections import deque

from authstate.engine.clock import within
from authstate.engine.flows.refresh import Refresher, RefreshResult, RefreshSettings, Urgency, urgency_of
from authstate.engine.machines.auth import AuthMachine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Secret
from authstate.engine.model.errors import (
    AuthError,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    RefreshInDoubt,
    RefreshInterrupted,
    StoreUnavailable,
    TransientAuthError,
)
from authstate.engine.model.events import RefreshFailed
from authstate.engine.model.listeners import Listeners
from authstate.engine.model.session import Failure, Session
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import Clock, CredentialStore

RefreshTask = asyncio.Task[AuthError | None]

_REMEMBERED = 64  # access tokens that the backend refused


class RefreshScheduler:
    """Owns the flight. `storing` is the lock of this process that whoever takes the store's lock holds before."""

    def __init__(
        self,
        machine: AuthMachine,
        store: CredentialStore,
        refresher: Refresher,
        clock: Clock,
        settings: RefreshSettings,
        listeners: Listeners,
    ) -> None:
        self.storing = asyncio.Lock()
        self.refresher = refresher
        self._machine = machine
        self._store = store
        self._clock = clock
        self._settings = settings
        self._listeners = listeners
        self._flight: RefreshTask | None = None
        self._settled_until = float("-inf")
        self._paused_until = float("-inf")
        self._pause_reason: IssuerUnavailable | None = None
        self._refused: deque[Secret] = deque(maxlen=_REMEMBERED)
        self._doubted: Secret | None = None  # an access token whose refresh token may be spent
        self._was_usable = False
        self._warned_of_clock = False

    # When

    def urgency(self) -> Urgency:
        """How urgent a refresh is by the clock alone; NONE for what is no managed login."""
        tokens = self._machine.session.credentials
        return (
            urgency_of(tokens, self._clock.now(), self._settings) if isinstance(tokens, ChatgptTokens) else Urgency.NONE
        )

    def proactive_urgency(self) -> Urgency:
        """How urgent a refresh is, but for tokens so young that only a wrong clock can call them old."""
        if self._machine.session.state is not AuthState.CHATGPT:
            return Urgency.NONE
        urgency = self.urgency()
        now = self._clock.monotonic()
        if now < self._settled_until:
            if urgency is Urgency.NOW and not self._warned_of_clock:
                self._warned_of_clock = True
                self._listeners.warn(
                    "clock_may_be_wrong", "new tokens look expired already: check this machine's clock"
                )
            return Urgency.NONE
        if self._doubted is not None and self.serves() and self._access_token() == self._doubted:
            return Urgency.NONE  # the refresh token may be spent: it is sent when there is nothing else left
        return Urgency.NONE if urgency is Urgency.SOON and now < self._paused_until else urgency

    def serves(self) -> bool:
        """Whether the current access token is good to use, as far as is known."""
        return not self.is_unusable()

    def _access_token(self) -> Secret | None:
        credentials = self._machine.session.credentials
        return credentials.access_token if isinstance(credentials, ChatgptTokens) else None

    def is_expired(self) -> bool:
        """Whether the current access token is past its `exp` by the wall clock."""
        credentials = self._machine.session.credentials
        expires_at = None if credentials is None or isinstance(credentials, ApiKey) else credentials.expires_at
        return expires_at is not None and expires_at <= self._clock.now()

    def note_rejected(self, token: Secret) -> None:
        """The backend answered 401 to this access token."""
        if token not in self._refused:
            self._refused.append(token)

    def is_unusable(self) -> bool:
        """Whether the current managed access token cannot serve: it has expired, or the backend refused it.

        New tokens that looked expired from the first do so by a wrong clock.
        """
        tokens = self._machine.session.credentials
        if not isinstance(tokens, ChatgptTokens):
            return False
        is_new = self._clock.monotonic() < self._settled_until
        has_expired = self.is_expired() and not (is_new and tokens.looked_expired_at_once)
        return has_expired or tokens.access_token in self._refused

    def note_usable(self) -> None:
        """Remember, for a refresh token that is found dead later, whether the login ever worked in this process."""
        self._was_usable = self._machine.session.credentials is not None and not self.is_expired()
        self._pause_reason = None

    # The flight

    def start_or_join(self) -> RefreshTask:
        """The flight that all callers share. It is a task of its own: a cancelled caller does not cancel it."""
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._fly(self._machine.session))
        return self._flight

    def pause_reason(self) -> IssuerUnavailable | None:
        """Why the issuer could not be asked a moment ago, as a new error; None once the pause is over.

        A store that fails is asked again at once: that takes no 30 seconds, and new tokens may wait for it. So is the
        issuer once an access token fails that was used instead of a refresh token in doubt: nothing was sent then.
        """
        reason = self._pause_reason
        if reason is None or self._clock.monotonic() >= self._paused_until:
            return None
        if self._machine.session.state is not AuthState.CHATGPT:
            return None  # a dead refresh token has its own reason
        is_unsent = isinstance(reason, RefreshInDoubt) and not reason.is_new
        return None if is_unsent and not self.serves() else reason.again()

    async def reload_if_idle(self) -> bool:
        """As `reload`, but without waiting for a flight that is under way."""
        return not self.storing.locked() and await self.reload()

    async def wait_for_request(self, flight: RefreshTask) -> AuthError | None:
        """The outcome of a flight, for a request that needs a token.

        Raises:
            TimeoutError: the current token is still good, and the flight takes too long: use that token.
        """
        if self.is_expired():
            return await outcome(flight)
        credentials = self._machine.session.credentials
        patience = self._settings.patience
        if isinstance(credentials, ChatgptTokens) and credentials.expires_at is not None:
            patience = min(patience, (credentials.expires_at - self._clock.now()) / 2)
        return await within(self._clock, patience, outcome(flight))

    async def finish_or_cancel(self, grace: float = 60.0) -> None:
        """Bring the flight down: at once where nothing is lost, else wait until its tokens are stored.

        Raises:
            RefreshInterrupted: that took more than `grace` seconds.
        """
        flight = self._flight
        if flight is None or flight.done():
            return
        self.refresher.stop_retrying()
        if not self.refresher.uncancellable:
            flight.cancel()
        landed, _ = await asyncio.wait((flight,), timeout=grace)
        if not landed:
            raise RefreshInterrupted(f"a refresh has not ended within {grace:g} seconds: try again")

    async def look(self, patience: float) -> None:
        """Find out whether an expired login can still be refreshed, waiting at most `patience` seconds for it.

        Raises nothing: what went wrong is in the session and in the events. The flight goes on after that time.
        """
        if self._machine.session.state is AuthState.REFRESH_DEAD:
            await self.reload()
        elif self.proactive_urgency() is Urgency.NOW and self._clock.monotonic() >= self._paused_until:
            try:
                await within(self._clock, patience, outcome(self.start_or_join()))
            except TimeoutError:
                return

    async def _fly(self, asked: Session) -> AuthError | None:
        async with self.storing:
            tokens = self._machine.session.credentials
            if self._machine.session.state is not AuthState.CHATGPT or not isinstance(tokens, ChatgptTokens):
                return None
            if not self._machine.session.has_same_access_as(asked):
                return None  # a login or another process brought newer tokens while this flight waited
            try:
                renewal = await self.refresher.run(tokens, self.serves)
                while self._adopt(tokens, renewal) and renewal.tokens.access_token == tokens.access_token:
                    tokens = renewal.tokens  # only the refresh token was new: this flight is for an access token
                    renewal = await self.refresher.run(tokens, self.serves)
            except PermanentRefreshError as raised:
                dead = raised.again()  # its frames hold the tokens
                if self._machine.session.credentials is not tokens:
                    return None  # external tokens or a policy came first: nobody uses what was refused
                if dead.reason is RefreshDeadReason.MISSING and not self.is_expired():
                    self._listeners.emit(RefreshFailed(dead, permanent=False))
                    return dead  # the access token is used until it expires
                failure = Failure(str(dead), dead.reason, dead.detail, on_arrival=not self._was_usable)
                self._machine.fire(Trigger.REFRESH_REJECTED, failure)
                self._listeners.emit(RefreshFailed(dead, permanent=True))
                return dead
            except TransientAuthError as raised:
                error = raised.again()
                self._paused_until = self._clock.monotonic() + self._settings.pause
                self._pause_reason = error if isinstance(error, IssuerUnavailable) else None
                if isinstance(error, RefreshInDoubt):
                    self._doubted = tokens.access_token
                self._listeners.emit(RefreshFailed(error, permanent=False))
                return error
            return None

    # What it brings

    async def reload(self) -> bool:
        """Look into the store, and adopt other tokens of the same account. Tells whether there were any."""
        if self._machine.session.state not in (AuthState.CHATGPT, AuthState.REFRESH_DEAD):
            return False
        async with self.storing:
            current = self._machine.session.credentials
            try:
                stored = await self._store.load()
            except StoreUnavailable as fault:
                self._listeners.warn("store_unreadable", str(fault))
                return False
            if not isinstance(stored, ChatgptTokens) or not isinstance(current, ChatgptTokens):
                return False
            if stored.is_same_material_as(current) or not stored.account.is_same_as(current.account):
                return False
            if self.refresher.is_unconfirmed(stored):
                return False  # the next flight stores them again, and then they are used
            if await self.refresher.is_outdated(stored):
                return False  # a restored backup, say: the next flight goes on from the newer ones, and replaces them
            self.refresher.clear_pending_write()
            return self._adopt(current, RefreshResult(stored, adopted=True))

    def dead(self) -> PermanentRefreshError:
        """The remembered reason of refresh_dead, as a new error."""
        failure = self._machine.session.failure or Failure("")
        return PermanentRefreshError(failure.reason or RefreshDeadReason.UNKNOWN, failure.detail)

    def _adopt(self, replaced: ChatgptTokens, renewal: RefreshResult) -> bool:
        """Install stored tokens, unless the session has moved on in the meantime (external tokens, a policy)."""
        if self._machine.session.credentials is not replaced:
            return False
        self._machine.fire(Trigger.TOKENS_REFRESHED, renewal.tokens)
        self._pause_reason = None
        self._was_usable = self._was_usable or not self.is_expired()
        age = self._clock.now() - (renewal.tokens.last_refresh or self._clock.now())
        if not renewal.adopted or abs(age) < self._settings.settle:
            self._settled_until = self._clock.monotonic() + self._settings.settle
        return True


async def outcome(task: RefreshTask) -> AuthError | None:
    """Wait for a shared task without owning it: cancelling the caller leaves it alone."""
    await asyncio.wait((task,))
    if task.cancelled():
        return RefreshInterrupted("a login, a logout or the end of the program came first: try again")
    return task.result()
