"""AuthEngine: the one object an embedder holds.

    async with AuthEngine(store, authority) as engine:
        authorization = await engine.authorization()

Everything that changes the state runs under two locks of the process, taken in this order: `_changes.lock` (logins,
logouts and external tokens, one at a time) and `_scheduler.storing` (whoever holds it may take the store's lock). A
refresh takes only the second one, so a parent can always pass tokens in. `follow` takes neither, and acts only while
both are free. Use it as a context manager: leaving waits for a refresh token that is being spent.
"""

import asyncio
from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Self

import msgspec

from authstate.engine.clock import SystemClock, within
from authstate.engine.flows.external_tokens import ExternalTokenRefresher
from authstate.engine.flows.login_attempts import LoginAttempts
from authstate.engine.flows.refresh import Refresher, RefreshSettings, Urgency
from authstate.engine.flows.refresh_scheduler import RefreshScheduler, outcome
from authstate.engine.flows.revocations import Revocations
from authstate.engine.flows.session_changes import SessionChanges
from authstate.engine.flows.shared_recovery import SharedRecovery
from authstate.engine.flows.store_sync import StoreSync
from authstate.engine.machines.auth import AuthMachine
from authstate.engine.machines.login import LoginAttempt, LoginKind
from authstate.engine.machines.recovery import RecoveryPlan
from authstate.engine.model.authorization import Authorization
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials, ExternalTokens
from authstate.engine.model.errors import (
    AuthError,
    EngineClosed,
    ExternalTokensActive,
    IssuerUnavailable,
    LoginAttemptEnded,
    RecoveryExhausted,
    RefreshInDoubt,
    RefreshInterrupted,
    StoreUnavailable,
    TransientAuthError,
    fresh_methods,
)
from authstate.engine.model.events import MODE_OF_STATE, AuthMode
from authstate.engine.model.listeners import Listener, Listeners
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.session import Failure, Session
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import Clock, CredentialStore, ExternalTokenSource, TokenAuthority

_TRIES = 3  # recoveries of one request, while other processes keep storing tokens that cannot serve
_OF_THE_STORE = (Trigger.USE_API_KEY, Trigger.COMPLETE_CHATGPT_LOGIN, Trigger.LOG_OUT)
"""They are pulled once the store was read or written."""


@fresh_methods
class AuthEngine:
    """Owns the lifecycle of one login.

    It belongs to the event loop that it is started in; only `session` may be read in any thread. A login or a logout
    whose caller is cancelled was done whole or not at all, and `session` tells which. Once the engine is closed, who
    wants to act with the login, or to sign in or out, gets `EngineClosed`.

    Args:
        store: where credentials live between processes.
        authority: the issuer's token endpoint.
        parent: whom to ask for new external tokens after a 401; may be set later.
        policy: forced login method and workspaces.
        clock, random: the ports for time and chance.
        settings: the numbers of the refresh protocol.
        api_key: a key that wins over what is stored, for this process; never stored.
        recovery: the 401 recovery, as a table and its steps.
    """

    def __init__(
        self,
        store: CredentialStore,
        authority: TokenAuthority,
        *,
        parent: ExternalTokenSource | None = None,
        policy: Policy | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        settings: RefreshSettings | None = None,
        api_key: ApiKey | None = None,
        recovery: RecoveryPlan | None = None,
    ) -> None:
        self.store_fault: StoreUnavailable | None = None
        """Why what is stored could not be read at the start, if so."""
        self._store = store
        self._clock = clock or SystemClock()
        self._settings = settings or RefreshSettings()
        self._api_key = api_key
        self._listeners = Listeners()
        self._machine = AuthMachine(policy or Policy(), self._listeners)
        self._recovery = SharedRecovery(recovery or RecoveryPlan())
        refresher = Refresher(store, authority, self._clock, random or Random(), self._settings, self._listeners.warn)
        self._scheduler = RefreshScheduler(
            self._machine, store, refresher, self._clock, self._settings, self._listeners
        )
        self._stored = StoreSync(self._machine, store, self._scheduler, self._listeners, self._fire)
        timeout = self._settings.parent_timeout
        self._parent = ExternalTokenRefresher(parent, self._machine, self._clock, timeout, self._listeners)
        self._revocations = Revocations(authority, self._listeners)
        self._logins = LoginAttempts(self._clock, self._listeners)
        self._changes = SessionChanges(
            self._machine, store, self._scheduler, self._revocations, self._logins, self._listeners, self._fire
        )
        self._closed = False

    # Looking

    @property
    def session(self) -> Session:
        """The current snapshot. Costs an attribute read."""
        return self._machine.session

    @property
    def parent(self) -> ExternalTokenSource | None:
        """Whom to ask for new external tokens after a 401."""
        return self._parent.parent

    @parent.setter
    def parent(self, parent: ExternalTokenSource | None) -> None:
        self._parent.parent = parent

    @property
    def policy(self) -> Policy:
        """The restrictions in force; `set_policy` changes them."""
        return self._machine.policy

    @property
    def auth_mode(self) -> AuthMode | None:
        """How the account is signed in; a dead refresh token is still a ChatGPT login."""
        return MODE_OF_STATE.get(self.session.state)

    def urgency(self) -> Urgency:
        """How urgent a refresh is by the clock alone; NONE for what is no managed login."""
        return self._scheduler.urgency()

    def is_expired(self) -> bool:
        """Whether the current access token is past its `exp` by the wall clock."""
        return self._scheduler.is_expired()

    @property
    def refresh_fault(self) -> IssuerUnavailable | None:
        """Why the refresh that is under way, or was last, has not succeeded yet: what its last try met."""
        return self._scheduler.refresher.fault

    @property
    def pause_reason(self) -> IssuerUnavailable | None:
        """Why who needs a refresh fails at once for `RefreshSettings.pause` (30 s): the issuer could not be asked."""
        return self._scheduler.pause_reason()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event, in order, in the task that caused it. Returns what ends it.

        A listener must not block; what it raises goes to the event loop's exception handler.
        """
        return self._listeners.subscribe(listener)

    # Beginning and end

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> Session:
        """Restore what is stored (or take the process's own API key) and return the session.

        What cannot be read counts as not signed in: the fault is in `store_fault` and in a `Warned` event, and the
        store is left as it is. What a policy forbids is refused, with the reason in `session.failure`.
        """
        stored: Credentials | None = self._api_key
        if stored is None:
            try:
                stored = await self._store.load()
            except StoreUnavailable as fault:
                self.store_fault = fault.again()  # the frames of the store hold what is stored
                self._listeners.warn("store_unreadable", str(fault))
        if stored is not None:
            self._stored.take(stored)
        return self.session

    async def restore(self) -> Session:
        """While nobody is signed in, look into the store again: another process may have signed in since the start.

        Raises nothing: what cannot be read counts as nothing. Does nothing while a login or a logout is under way.
        """
        self._ensure_open()
        if self.session.state is not AuthState.LOGGED_OUT or self._changes.lock.locked():
            return self.session
        async with self._changes.lock:
            try:
                stored = await self._store.load()
            except StoreUnavailable:
                return self.session
            self.store_fault = None
            if stored is not None:
                self._stored.take(stored)
        return self.session

    async def follow(self, *, adopt: bool = False) -> Session:
        """Do as another process did since the last look: sign out, or act as who signed in there, and tell so.

        For who looks about once a second: where the store can tell that nothing changed (`HasRevision`), it costs next
        to nothing. Leaves alone what is not stored (a parent's tokens, the process's own API key), and new tokens of
        the same account, unless `adopt` says that no request is under way: one with older tokens would be refused.
        Raises nothing: a store that this process is about to change is looked at the next time. So is one that cannot
        be read; then ever more rarely, at last about once a minute, until it changes.
        """
        self._ensure_open()
        if self._api_key is None or self.session.credentials is not self._api_key:
            await self._stored.follow(self._changes.lock, adopt=adopt)
        return self.session

    async def close(self, grace: float = 30.0) -> None:
        """End the engine: wait, at most `grace` seconds, for a refresh token that is being spent; drop everything else.

        Cancelling the caller does not cancel what is being spent, only the wait for it.
        """
        self._closed = True
        self._logins.supersede("the program ends")
        self._recovery.cancel()
        self._parent.close()
        try:
            await self._scheduler.finish_or_cancel(grace)
            if self._scheduler.refresher.pending_write is not None:
                await asyncio.wait((self._scheduler.start_or_join(),), timeout=grace)
        except RefreshInterrupted as interrupted:
            self._listeners.warn("refresh_abandoned", str(interrupted))
        await self._revocations.close(min(grace, self._settings.revoke_grace))

    # Acting with the login

    async def authorization(self) -> Authorization:
        """A token that is good to use, refreshed first when it must be.

        A token that has not expired is handed out within `RefreshSettings.patience` (2 s), and the refresh goes on. For
        one that has, this waits for the refresh, at most about `RefreshSettings.total` plus one request. After the
        issuer could not be asked, callers get the remembered reason at once for `RefreshSettings.pause` (30 s), unless
        another process stored newer tokens.

        Raises:
            NotSignedIn: there is none.
            PermanentRefreshError: the refresh token is dead and the access token expired; says what to do.
            TransientAuthError: a refresh was needed and is not possible just now.

        Cancelling the caller does not cancel the refresh, which others may wait for.
        """
        for _ in range(3):
            self._ensure_open()
            session = self.session
            if session.state is AuthState.REFRESH_DEAD:
                if await self.reload() or self.session is not session:
                    continue
                if self.is_expired():
                    raise self._scheduler.dead()
                break
            urgency = self._scheduler.proactive_urgency()
            if urgency is Urgency.NONE:
                break
            if urgency is Urgency.NOW and (fault := self._scheduler.pause_reason()) is not None:
                if not self.is_expired():
                    break
                if await self._scheduler.reload_if_idle() or self.session is not session:
                    continue
                raise fault
            flight = self._scheduler.start_or_join()
            if urgency is Urgency.SOON:
                break
            try:
                error = await self._scheduler.wait_for_request(flight)
            except TimeoutError:
                break
            if isinstance(error, TransientAuthError) and not self.is_expired():
                break
            if error is not None:
                raise error.again()
        return Authorization.of(self.session)

    async def recover(self, refused: Authorization) -> Authorization:
        """After a 401 for `refused`: what to send the request again with.

        A refused token that is not the current one any more costs nothing, unless the current one cannot serve either:
        a managed token that has expired, or that the backend refused before, is never the answer. All callers share one
        recovery, and in the pause after one that failed, they get its reason. A parent is asked once for each request:
        hand back the authorization that this returned, if that is refused, too.

        Raises:
            RecoveryExhausted: this mode has no way to another token, or the parent's answer was refused, too.
            PermanentRefreshError, TransientAuthError, NotSignedIn: the reason why there is none.
        """
        self._ensure_open()
        generation = self.session.generation
        is_current = refused.generation == generation or refused.token == Authorization.of(self.session).token
        asks_parent = is_current and self.session.state is AuthState.EXTERNAL_TOKENS
        if asks_parent and refused.is_parents_answer:
            raise RecoveryExhausted(
                "the backend refused the new token of the parent application, too: see its log, then send the request "
                "again"
            )
        self._scheduler.note_rejected(refused.token)
        for _ in range(_TRIES):
            if not is_current and not self._scheduler.is_unusable():
                break
            await self._recovery.run(self)
            is_current = False
        newer = msgspec.structs.replace(Authorization.of(self.session), is_parents_answer=asks_parent)
        if newer.token == refused.token:
            raise RecoveryExhausted(
                "the backend refused the token, and there is no other: send the request again later"
            )
        return newer

    async def refresh(self, patience: float | None = None) -> Session:
        """Refresh now, whatever the clock says. Does nothing but for a managed login. Tokens that another process
        stored are adopted, and that is enough.

        Args:
            patience: seconds to wait. After them it returns, and the refresh goes on. By default it waits for the end.

        Raises:
            PermanentRefreshError: the refresh token is dead (remembered: a dead one is never sent again).
            TransientAuthError: not possible just now; nothing changed.
        """
        self._ensure_open()
        if (dead := self.session).state is AuthState.REFRESH_DEAD:
            if not await self.reload() and self.session.state is AuthState.REFRESH_DEAD:
                raise self._scheduler.dead()
            if not self.session.has_same_access_as(dead):
                return self.session
        if (asked := self.session).state is AuthState.CHATGPT:
            wait_for_request = outcome(self._scheduler.start_or_join())
            try:
                error = await (
                    wait_for_request if patience is None else within(self._clock, patience, wait_for_request)
                )
            except TimeoutError:
                return self.session
            if isinstance(error, RefreshInDoubt) and not error.is_new and not self._scheduler.serves():
                error = await outcome(self._scheduler.start_or_join())  # that flight began before the token was refused
            if error is not None and self.session.has_same_access_as(asked):  # else others brought newer ones
                raise error.again()
        return self.session

    async def check(self, patience: float = 2.0) -> Session:
        """The first look at the account: find out whether an expired login can still be refreshed.

        Raises nothing: what went wrong is in the session and in the events. After `patience` seconds it returns, and
        the refresh goes on.
        """
        self._ensure_open()
        await self._scheduler.look(patience)
        return self.session

    async def reload(self) -> bool:
        """Look into the store, and adopt other tokens of the same account. Tells whether there were any."""
        return await self._scheduler.reload()

    async def ask_parent(self) -> Session:
        """Ask the parent for new external tokens, one question at a time for all callers.

        Raises:
            ParentUnavailable: no parent, an error, no answer within 10 s, malformed tokens or another workspace.
            TransitionRefused: the tokens in use are not the parent's.
        """
        await self._parent.ask()
        return self.session

    # Signing in and out

    async def use_api_key(self, key: ApiKey) -> None:
        """Sign in with an API key and store it.

        Raises:
            ExternalTokensActive, LoginMethodForbidden: refused; nothing changed.
            StoreUnavailable: it could not be stored; the old login still works.
            RefreshInterrupted: a refresh that came first has not ended within a minute; nothing changed.
        """
        await self._sign_in(Trigger.USE_API_KEY, key)

    async def complete_chatgpt_login(self, tokens: ChatgptTokens) -> None:
        """Sign in with tokens that a login brought, and store them. The tokens they replace are revoked, best effort.

        Raises:
            ExternalTokensActive, PolicyViolation: refused; nothing changed.
            StoreUnavailable: they could not be stored; the old login still works.
            RefreshInterrupted: a refresh that came first has not ended within a minute; nothing changed.
        """
        await self._sign_in(Trigger.COMPLETE_CHATGPT_LOGIN, tokens)

    async def begin_login(self, login_id: str, kind: LoginKind) -> LoginAttempt:
        """Open a login attempt; one that was open is superseded. The adapter that runs the attempt reports to it.

        Args:
            login_id: its name on the wire, a new UUID.
            kind: browser (10 minutes) or device code (15 minutes).

        Raises:
            ExternalTokensActive, LoginMethodForbidden: refused; nothing changed.
        """
        self._ensure_open()
        await self._logins.settled()
        if self.session.state is AuthState.EXTERNAL_TOKENS:
            raise ExternalTokensActive(Trigger.COMPLETE_CHATGPT_LOGIN, self.session.state)
        if violation := self.policy.method_violation(LoginMethod.CHATGPT):
            raise violation
        return self._logins.begin(login_id, kind)

    async def cancel_login(self, login_id: str) -> bool:
        """Cancel the attempt of that name. Tells whether it was open; one that is being stored is waited for."""
        return await self._logins.cancel(login_id)

    async def complete_login(self, attempt: LoginAttempt, tokens: ChatgptTokens) -> None:
        """Store what an attempt brought, and end the attempt: it succeeds, or fails with the error that is raised.

        Raises:
            LoginAttemptEnded: it was over before; nothing changed.
            PolicyViolation, ExternalTokensActive, StoreUnavailable, RefreshInterrupted: the old login still works.

        Cancelling the caller before the tokens are stored fails the attempt.
        """
        try:
            await self._sign_in(Trigger.COMPLETE_CHATGPT_LOGIN, tokens, attempt)
        except LoginAttemptEnded:
            raise
        except AuthError as error:
            if attempt.is_open:
                attempt.fail_storing("refused", str(error))
            raise
        except BaseException:
            if attempt.is_open:
                attempt.fail_storing("superseded", "this login was ended: the program ends")
            raise

    async def use_external_tokens(self, tokens: ExternalTokens) -> None:
        """Act with tokens that the parent owns. They are never stored; what is stored stays.

        Raises:
            PolicyViolation: refused; nothing changed.
        """
        self._ensure_open()
        self._parent.trust(tokens)
        await self._changes.take_external(tokens)

    async def log_out(self) -> None:
        """Remove what is stored and forget it; revoke the newest refresh token in the background.

        Waits, bounded, for a refresh in flight here or in another process, so that a late refresh cannot bring the
        login back. The process's own API key is not what is stored: it is forgotten, and what is stored stays.

        Raises:
            StoreUnavailable: it could not be removed, or is a login of a kind that is not managed here; the login is as
                it was.
            RefreshInterrupted: a refresh that came first has not ended within a minute; the login is as it was.
        """
        self._ensure_open()
        is_own_key = self._api_key is not None and self.session.credentials is self._api_key
        await self._changes.sign_out(keeps_store=is_own_key)

    def set_policy(self, policy: Policy) -> None:
        """Change the restrictions. Credentials that they forbid are refused at once; the store is kept as it is."""
        self._machine.policy = policy
        credentials = self.session.credentials
        violation = policy.violation(credentials) if credentials is not None else None
        if violation is not None:
            self._fire(Trigger.CREDENTIALS_REFUSED, Failure(str(violation)))

    # Inside

    async def _sign_in(
        self, trigger: Trigger, credentials: ApiKey | ChatgptTokens, attempt: LoginAttempt | None = None
    ) -> None:
        self._ensure_open()
        await self._changes.sign_in(trigger, credentials, attempt)

    def _fire(self, trigger: Trigger, offer: Credentials | Failure | None = None) -> None:
        self._machine.fire(trigger, offer)
        self._scheduler.note_usable()
        if trigger in _OF_THE_STORE:
            self.store_fault = None

    def _ensure_open(self) -> None:
        if self._closed:
            raise EngineClosed("this engine was closed: make a new one")
