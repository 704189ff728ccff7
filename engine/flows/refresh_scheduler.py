"""Keeps a managed login fresh: when to refresh, the one refresh that all callers share, and what its result means.

How a refresh works is in refresh.py. What a result changes in the state is in machines/auth_state.py.
"""

import asyncio
from collections import deque

from authstate.engine.clock import within
from authstate.engine.flows.engine_locks import EngineLocks
from authstate.engine.flows.paced_refresh import PacedRefresh
from authstate.engine.flows.pending_tokens import PendingTokens, RefreshResult
from authstate.engine.flows.refresh import Refresher
from authstate.engine.flows.refresh_retries import RefreshProgress
from authstate.engine.flows.refresh_urgency import Urgency, spare_time, urgency_of
from authstate.engine.flows.shared_refresh import SharedRefresh
from authstate.engine.flows.single_flight import SharedTask, wait_shielded
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.model.credentials import ChatgptTokens, ExternalTokens
from authstate.engine.model.errors import (
    AuthError,
    EngineClosed,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    RefreshInDoubt,
    RefreshInterrupted,
    StoreUnavailable,
    TransientAuthError,
)
from authstate.engine.model.events import Event, Listeners, RefreshFailed, RefreshOutcome, RefreshReason, StateChanged
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Failure, Session
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import Clock, CredentialStore

_MAX_REFUSED = 64  # access tokens to remember that the backend refused
_OF_A_REFRESH = (Trigger.TOKENS_REFRESHED, Trigger.REFRESH_REJECTED)


class RefreshScheduler:
    """Decides when to refresh, and runs one refresh at a time."""

    def __init__(
        self,
        machine: AuthMachine,
        store: CredentialStore,
        refresher: Refresher,
        pending: PendingTokens,
        locks: EngineLocks,
        clock: Clock,
        settings: RefreshSettings,
        listeners: Listeners,
    ) -> None:
        self.paced: PacedRefresh = PacedRefresh()
        self._machine = machine
        self._store = store
        self._refresher = refresher
        self._pending = pending
        self._locks = locks
        self._clock = clock
        self._settings = settings
        self._listeners = listeners
        self._shared = SharedRefresh(machine, clock, listeners, self._refresh)
        self._settled_until = float("-inf")
        self._paused_until = float("-inf")
        self._pause_reason: IssuerUnavailable | None = None
        self._refused: deque[Secret] = deque(maxlen=_MAX_REFUSED)
        self._doubted: Secret | None = None  # an access token whose refresh token may be spent
        self._was_usable = False  # the login had a usable access token in this process
        self._warned_of_clock = False
        listeners.subscribe(self._on_event)

    def _on_event(self, event: Event) -> None:
        """Start afresh with other credentials after a login, a logout, external tokens or a refused policy."""
        if isinstance(event, StateChanged) and event.trigger not in _OF_A_REFRESH:
            self.paced.withdraw()
            self._was_usable = event.current.credentials is not None and not self.is_expired()
            self._pause_reason = None

    # When to refresh

    def urgency(self) -> Urgency:
        """How urgent a refresh is by the clock alone. NONE if this is not a managed login."""
        tokens = self._machine.session.credentials
        if not isinstance(tokens, ChatgptTokens):
            return Urgency.NONE
        return urgency_of(tokens, self._clock.now(), self._settings)

    def proactive_urgency(self) -> Urgency:
        """How urgent a refresh is before a request.

        NONE for tokens that are so young that only a wrong clock makes them look old, and, while the access token is
        usable, for a refresh token that may be spent.
        """
        if self._machine.session.state is not AuthState.CHATGPT:
            return Urgency.NONE
        urgency = self.urgency()
        now = self._clock.monotonic()
        if now < self._settled_until:
            if urgency is Urgency.NOW and not self._warned_of_clock:
                self._warned_of_clock = True
                said = "new tokens look expired already: check this machine's clock"
                self._listeners.warn("clock_may_be_wrong", said)
            return Urgency.NONE
        if self._doubted is not None and self.is_usable() and self._access_token() == self._doubted:
            return Urgency.NONE
        return Urgency.NONE if urgency is Urgency.SOON and now < self._paused_until else urgency

    def _access_token(self) -> Secret | None:
        credentials = self._machine.session.credentials
        return credentials.access_token if isinstance(credentials, ChatgptTokens) else None

    def may_refresh_early(self) -> bool:
        """Whether a refresh that the clock does not ask for yet is allowed, and may bring newer tokens.

        It is not during a pause, for tokens that just came, and while the refresh token may be spent.
        """
        is_held_back = self._clock.monotonic() < max(self._settled_until, self._paused_until)
        is_doubted = self._doubted is not None and self._access_token() == self._doubted
        return self._machine.session.state is AuthState.CHATGPT and not is_held_back and not is_doubted

    def is_expired(self) -> bool:
        """Whether the current access token is past its `exp` by the wall clock."""
        credentials = self._machine.session.credentials
        expires_at = credentials.expires_at if isinstance(credentials, ChatgptTokens | ExternalTokens) else None
        return expires_at is not None and expires_at <= self._clock.now()

    def is_usable(self) -> bool:
        """Whether a request may be sent with the current credentials, as far as is known.

        False for a managed access token that has expired or that the backend refused. New tokens that looked expired
        when they came are usable: the clock is wrong.
        """
        tokens = self._machine.session.credentials
        if not isinstance(tokens, ChatgptTokens):
            return True
        is_new = self._clock.monotonic() < self._settled_until
        has_expired = self.is_expired() and not (is_new and tokens.looked_expired_at_once)
        return not has_expired and tokens.access_token not in self._refused

    def note_refused(self, token: Secret) -> None:
        """Remember that the backend answered 401 to this access token."""
        if token not in self._refused:
            self._refused.append(token)

    def pause_reason(self) -> IssuerUnavailable | None:
        """Why the issuer is not asked just now, as a new error: it could not be asked a moment ago.

        None once the pause is over. None also after a store failed: a store is tried again at once, because new tokens
        may wait for it. None also if a doubt kept the last refresh from sending anything and the access token has
        become unusable since.
        """
        reason = self._pause_reason
        if reason is None or self._clock.monotonic() >= self._paused_until:
            return None
        if self._machine.session.state is not AuthState.CHATGPT:
            return None  # a dead refresh token has a reason of its own
        is_unsent = isinstance(reason, RefreshInDoubt) and not reason.is_new
        return None if is_unsent and not self.is_usable() else reason.without_traceback()

    @property
    def is_refreshing(self) -> bool:
        """Whether a refresh is under way."""
        return self._shared.is_running

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, waits to be done, or holds a refresh back (a pause, a wrong clock)."""
        now = self._clock.monotonic()
        is_held_back = now < self._paused_until or (now < self._settled_until and self.urgency() is not Urgency.NONE)
        has_refresh = self.is_refreshing or self.paced.is_waiting or is_held_back
        return not has_refresh and not self._locks.is_any_held and self._pending.tokens is None

    @property
    def last_fault(self) -> IssuerUnavailable | None:
        """Why the last try of the refresh that is under way, or was last, failed. None if it did not."""
        return self._shared.progress.last_fault

    # For callers that need tokens

    async def prepare_request(self) -> bool:
        """Do one step towards a token that a request can use. Returns whether the current one is it; if not, the
        session changed: call again.

        Raises:
            PermanentRefreshError, TransientAuthError: the access token has expired, and there is no other.
        """
        session = self._machine.session
        if session.state is AuthState.REFRESH_DEAD:
            if await self.reload() or self._machine.session is not session:
                return False
            if self.is_expired():
                raise self._dead_error()
            return True
        urgency = self.proactive_urgency()
        if urgency is Urgency.NONE:
            return True
        if urgency is Urgency.NOW and (fault := self.pause_reason()) is not None:
            if not self.is_expired():
                return True
            if await self._reload_if_idle() or self._machine.session is not session:
                return False
            raise fault
        if urgency is Urgency.SOON:
            self.refresh_soon()
            return True
        try:
            error = await self.wait_for_request(self.start_or_join())
        except TimeoutError:
            return True
        if isinstance(error, TransientAuthError) and not self.is_expired():
            return True
        if error is not None:
            raise error.without_traceback()
        return False

    async def wait_for_request(self, task: SharedTask) -> AuthError | None:
        """Wait for a refresh and return its error, for a request that needs a token.

        Raises:
            TimeoutError: the current token has not expired, and the refresh takes too long: use that token.
        """
        if self.is_expired():
            return await wait_shielded(task)
        credentials = self._machine.session.credentials
        patience = self._settings.patience
        if isinstance(credentials, ChatgptTokens) and credentials.expires_at is not None:
            patience = min(patience, (credentials.expires_at - self._clock.now()) / 2)
        return await within(self._clock, patience, wait_shielded(task))

    async def refresh(self, patience: float | None = None, reason: RefreshReason = RefreshReason.REQUESTED) -> None:
        """Refresh now, whatever the clock says. See `AuthEngine.refresh`.

        Raises:
            PermanentRefreshError, TransientAuthError: there are no newer tokens.
        """
        if (dead := self._machine.session).state is AuthState.REFRESH_DEAD:
            if not await self.reload() and self._machine.session.state is AuthState.REFRESH_DEAD:
                raise self._dead_error()
            if not self._machine.session.has_same_access_as(dead):
                return
        if (asked := self._machine.session).state is not AuthState.CHATGPT:
            return
        waiting = wait_shielded(self.start_or_join(reason))
        try:
            error = await (waiting if patience is None else within(self._clock, patience, waiting))
        except TimeoutError:
            return
        if isinstance(error, RefreshInDoubt) and not error.is_new and not self.is_usable():
            error = await wait_shielded(self.start_or_join(reason))  # the first one began before the token was refused
        if error is not None and self._machine.session.has_same_access_as(asked):  # else others brought newer ones
            raise error.without_traceback()

    async def check(self, patience: float) -> None:
        """Find out whether an expired login can still be refreshed. Waits at most `patience` seconds.

        Raises nothing: what went wrong is in the session and in the events. The refresh continues after that time.
        """
        if self._machine.session.state is AuthState.REFRESH_DEAD:
            await self.reload()
        elif self.proactive_urgency() is Urgency.NOW and self._clock.monotonic() >= self._paused_until:
            try:
                await within(self._clock, patience, wait_shielded(self.start_or_join()))
            except TimeoutError:
                return

    async def reload(self) -> bool:
        """Read the store and adopt other tokens of the same account. Returns whether there were any."""
        if self._machine.session.state not in (AuthState.CHATGPT, AuthState.REFRESH_DEAD):
            return False
        async with self._locks.store:
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
            if self._pending.holds(stored):
                return False  # the next refresh stores them again; then they are used
            if await self._refresher.is_outdated(stored):
                return False  # a restored backup, for example: the next refresh replaces it with newer tokens
            self._pending.discard()
            return self._adopt(current, RefreshResult(stored, was_adopted=True))

    async def _reload_if_idle(self) -> bool:
        """As `reload`, but without waiting for a refresh that is under way."""
        return not self._locks.store.locked() and await self.reload()

    def _dead_error(self) -> PermanentRefreshError:
        """The remembered reason of refresh_dead, as a new error."""
        failure = self._machine.session.failure or Failure("")
        return PermanentRefreshError(failure.reason or RefreshDeadReason.UNKNOWN, failure.detail)

    # The refresh that all callers share

    def start_or_join(self, reason: RefreshReason = RefreshReason.NEEDED) -> SharedTask:
        """Return the refresh that is under way, or start one. A cancelled caller does not cancel it."""
        if not self.is_refreshing:
            self.paced.withdraw()
        return self._shared.start_or_join(reason)

    def refresh_soon(self) -> None:
        """Begin a background refresh: at once, or when the pacer says."""
        tokens = self._machine.session.credentials
        if not self.is_refreshing and isinstance(tokens, ChatgptTokens):
            self.paced.begin(spare_time(tokens, self._clock.now(), self._settings), self._begin_paced)

    def _begin_paced(self) -> None:
        if self.proactive_urgency() is not Urgency.NONE:
            self.start_or_join(RefreshReason.BACKGROUND)

    async def finish_or_cancel(self, grace: float = 60.0) -> None:
        """End the refresh that is under way: cancel it where nothing is lost, else wait until its tokens are stored.

        Raises:
            RefreshInterrupted: that took more than `grace` seconds.
        """
        await self._shared.finish_or_cancel(grace)

    async def close(self, grace: float) -> float:
        """End the refresh that is under way, then try once more to store pending tokens. A refresh that has not ended
        within `grace` seconds is left alone, with a warning. Returns how many of these seconds are left.
        """
        now = asyncio.get_running_loop().time
        end = now() + grace
        self.paced.withdraw()
        self._shared.close()
        try:
            await self.finish_or_cancel(grace)
            await self._store_pending(max(0.0, end - now()))
        except RefreshInterrupted as interrupted:
            self._listeners.warn("refresh_abandoned", str(interrupted))
        return max(0.0, end - now())

    async def _store_pending(self, left: float) -> None:
        if self._pending.tokens is None:
            return
        done, _ = await asyncio.wait((self.start_or_join(RefreshReason.UNSTORED),), timeout=left)
        if not done:
            raise RefreshInterrupted("new tokens are still being stored: if this process ends now, they are lost")

    async def _refresh(self, asked: Session, progress: RefreshProgress) -> AuthError | None:
        """Refresh the tokens of the session and install the result. Does nothing if newer ones came since `asked`."""
        async with self._locks.store:
            tokens = self._machine.session.credentials
            if self._machine.session.state is not AuthState.CHATGPT or not isinstance(tokens, ChatgptTokens):
                return None
            if not self._machine.session.has_same_access_as(asked):
                return None  # a login or another process brought newer tokens while this refresh waited
            try:
                result = await self._refresher.run(tokens, self.is_usable, progress)
                while self._adopt(tokens, result) and result.tokens.access_token == tokens.access_token:
                    if self._shared.is_closed:
                        return EngineClosed()  # the refresh token is stored, and nobody is left who needs more
                    tokens = result.tokens  # only the refresh token was new, and callers need an access token
                    result = await self._refresher.run(tokens, self.is_usable, progress)
                progress.outcome = RefreshOutcome.ADOPTED if result.was_adopted else RefreshOutcome.REFRESHED
            except PermanentRefreshError as error:
                return self._note_dead(tokens, error.without_traceback())
            except TransientAuthError as error:
                return self._note_transient(tokens, error.without_traceback())
            return None

    def _note_dead(self, tokens: ChatgptTokens, dead: PermanentRefreshError) -> PermanentRefreshError | None:
        if self._machine.session.credentials is not tokens:
            return None  # external tokens or a policy came first: nobody uses the refused tokens
        is_permanent = dead.reason is not RefreshDeadReason.MISSING or self.is_expired()
        if is_permanent:  # else there is no refresh token, and the access token is used until it expires
            failure = Failure(str(dead), dead.reason, dead.detail, on_arrival=not self._was_usable)
            self._machine.fire(Trigger.REFRESH_REJECTED, failure)
        self._listeners.emit(RefreshFailed(dead, permanent=is_permanent))
        return dead

    def _note_transient(self, tokens: ChatgptTokens, error: TransientAuthError) -> TransientAuthError:
        self._paused_until = self._clock.monotonic() + self._settings.pause
        self._pause_reason = error if isinstance(error, IssuerUnavailable) else None
        if isinstance(error, RefreshInDoubt):
            self._doubted = tokens.access_token
        self._listeners.emit(RefreshFailed(error, permanent=False))
        return error

    def _adopt(self, replaced: ChatgptTokens, result: RefreshResult) -> bool:
        """Install stored tokens, unless the session has moved on in the meantime (external tokens, a policy)."""
        if self._machine.session.credentials is not replaced:
            return False
        self._machine.fire(Trigger.TOKENS_REFRESHED, result.tokens)
        self._pause_reason = None
        self._was_usable = self._was_usable or not self.is_expired()
        age = self._clock.now() - (result.tokens.last_refresh or self._clock.now())
        if not result.was_adopted or abs(age) < self._settings.settle:
            self._settled_until = self._clock.monotonic() + self._settings.settle
        return True
