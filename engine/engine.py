"""AuthEngine: the one object that an embedder holds.

    async with AuthEngine(store, authority) as engine:
        authorization = await engine.authorization()

Use it as a context manager: leaving it waits for a refresh token that is being spent. The engine itself only checks
that it is open and connects the flows; flows/engine_locks.py says which lock protects what.
"""

from collections.abc import Callable
from random import Random
from typing import Self

from authstate.engine.flows.background import Background
from authstate.engine.flows.engine_flows import EngineFlows, EngineParts
from authstate.engine.flows.engine_life import guard_methods
from authstate.engine.flows.event_source import EventSource
from authstate.engine.flows.refresh_urgency import Urgency
from authstate.engine.machines.login_attempt import LoginAttempt, LoginFlow
from authstate.engine.machines.recovery import RecoveryPlan
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens, StaticCredentials
from authstate.engine.model.errors import AuthError, IssuerUnavailable, StoreUnavailable
from authstate.engine.model.events import AuthMode, mode_of
from authstate.engine.model.policy import Policy
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.session import Authorization, Session
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import Clock, CredentialStore, ExternalTokenSource, RefreshPacer, TokenAuthority


@guard_methods
class AuthEngine(EventSource):
    """Owns the lifecycle of one login.

    Use it in the event loop that it was started in. Its methods raise `WrongEventLoop` elsewhere, `EngineNotStarted`
    before the start and `EngineClosed` after `close`. What only reads works in any thread. A login or a logout whose
    caller is cancelled is done completely or not at all, and `session` tells which.

    Args:
        store: where credentials are kept between processes.
        authority: the issuer's token endpoint.
        parent: whom to ask for new external tokens after a 401. May be set later.
        policy: forced login method and workspaces.
        clock: the port for time.
        random: the port for chance.
        settings: the numbers of the refresh protocol.
        api_key: the process's own key. It is used instead of what is stored, and never stored.
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
        self._flows = EngineFlows(
            EngineParts(store, authority, parent, policy, clock, random, settings, api_key, recovery)
        )
        self._life = self._flows.life

    # Current state

    @property
    def session(self) -> Session:
        """The current snapshot. Costs an attribute read."""
        return self._flows.machine.session

    @property
    def parent(self) -> ExternalTokenSource | None:
        """Whom to ask for new external tokens after a 401."""
        return self._flows.external.parent

    @parent.setter
    def parent(self, parent: ExternalTokenSource | None) -> None:
        self._life.ensure_changeable()
        self._flows.external.parent = parent

    @property
    def policy(self) -> Policy:
        """The restrictions in force. `set_policy` changes them."""
        return self._flows.machine.policy

    @property
    def auth_mode(self) -> AuthMode | None:
        """How the account is signed in. A dead refresh token is still a ChatGPT login."""
        return mode_of(self.session)

    def urgency(self) -> Urgency:
        """How urgent a refresh is by the clock alone. NONE if this is not a managed login."""
        return self._flows.scheduler.urgency()

    def is_expired(self) -> bool:
        """Whether the current access token is past its `exp` by the wall clock."""
        return self._flows.scheduler.is_expired()

    @property
    def store_fault(self) -> StoreUnavailable | None:
        """Why the store could not be read at the start. None once it was read or written."""
        return self._flows.store_sync.fault

    @property
    def identity_fault(self) -> AuthError | None:
        """Why the owner of the personal access token is not known. None if it is known, or if nobody needed it yet."""
        return self._flows.identity.fault

    @property
    def refresh_fault(self) -> IssuerUnavailable | None:
        """Why the last try of the refresh that is under way, or was last, failed. None if it did not."""
        return self._flows.scheduler.last_fault

    @property
    def pause_reason(self) -> IssuerUnavailable | None:
        """Why the issuer is not asked just now. After it could not be asked, callers that need a refresh get the reason
        at once for `RefreshSettings.pause` (30 s).
        """
        return self._flows.scheduler.pause_reason()

    @property
    def is_refreshing(self) -> bool:
        """Whether a refresh is under way."""
        return self._flows.scheduler.is_refreshing

    @property
    def is_replaceable(self) -> bool:
        """Whether closing this engine now ends and loses nothing: a new one on the same store could take its place.

        False during a refresh, or while one waits for its turn or for the end of a pause; while new tokens are not
        stored; during a sign-in, a sign-out or a revocation; and with external tokens, which live in memory only.
        """
        return self._flows.are_idle and self.session.state is not AuthState.EXTERNAL_TOKENS

    def pace_with(self, pacer: RefreshPacer | None) -> None:
        """Let a pacer choose when background refreshes begin (None: at once). A refresh that a caller waits for is not
        paced.
        """
        self._life.ensure_changeable()
        self._flows.scheduler.paced.pacer = pacer

    # Start and end

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> Session:
        """Restore the stored login, or use the process's own API key, and return the session.

        A store that cannot be read counts as empty and is not changed; the reason is in `store_fault` and in a `Warned`
        event. Credentials that a policy forbids are refused; the reason is in `session.failure`. Raises
        TransitionRefused if it was started before. A start that was cancelled may be tried again.
        """
        async with self._life.starting():
            await self._flows.store_sync.start()
        return self.session

    async def restore(self) -> Session:
        """Read the store again if nobody is signed in: another process may have signed in since the start.

        Does nothing while a login or a logout is under way. Raises nothing: an unreadable store counts as empty.
        """
        await self._flows.store_sync.restore()
        return self.session

    async def follow(self, *, adopt: bool = False, switch: bool = True) -> Session:
        """Apply sign-ins and sign-outs made by other processes, and change over to the account that is selected now
        (`FollowsSelection`). Call it about once a second.

        It costs almost nothing while the store can tell that nothing changed (`HasRevision`). It does nothing while the
        session uses external tokens or the process's own API key, or while this process is about to change what is
        stored. It tries an unreadable store less and less often, at last about once a minute, until the store changes.
        Raises nothing.

        Args:
            adopt: also adopt new tokens of the same account. True only while no request is under way: a request with
                the older token would be refused.
            switch: also change over to another account. False while something under way must keep its account.
                A login attempt that is open then ends, because it was meant for the account before.
        """
        self._flows.expiry.look()
        await self._flows.store_sync.follow(adopt=adopt, switch=switch)
        return self.session

    def background(self, *, keep_fresh: bool = True, is_idle: Callable[[], bool] | None = None) -> Background:
        """Keep the login up to date while a context is open: `async with engine.background():`.

        About once a second, sign-ins, sign-outs and selected accounts of other processes are applied (`follow`), and
        tokens are refreshed in the last minutes before they expire, also when nobody asks for one. Errors of the
        store and the issuer end nothing: they are in the events, and the next look tries again.

        Args:
            keep_fresh: False refreshes tokens only when somebody asks for one.
            is_idle: whether nothing is under way that must keep its account and its token. Then newer tokens of
                another process are adopted, and another account that is selected is changed over to. By default, an
                account is changed over to at once, and newer tokens are adopted when they are needed.
        """
        self._life.ensure_usable()
        return self._flows.backgrounds.make(self.follow, keep_fresh=keep_fresh, is_idle=is_idle)

    async def close(self, grace: float = 30.0) -> None:
        """End the engine: wait for a refresh token that is being spent, and cancel everything else.

        Cancelling the caller ends the wait; it does not cancel what is being spent.

        Args:
            grace: seconds to wait at most.
        """
        self._life.close()
        await self._flows.close(grace)

    # Using the login

    async def authorization(self, min_lifetime: float = 0.0) -> Authorization:
        """Return a token that can be used. Refresh it first if necessary.

        A token that has not expired is returned within `RefreshSettings.patience` (2 s), and its refresh continues in
        the background. If it has expired, this waits for the refresh, at most about `RefreshSettings.total` plus one
        request. After the issuer could not be asked, callers get that reason at once for `RefreshSettings.pause`
        (30 s), unless another process stored newer tokens.

        For a personal access token, the first call asks the issuer whose it is, which the policy and the header need.

        Args:
            min_lifetime: seconds that the token should last. One that lasts shorter is refreshed, and this waits for it
                as if it had expired. It is not refreshed if it is younger than `RefreshSettings.settle` (60 s), or
                during the pause. The token may still last shorter, if the issuer gives no longer ones or cannot be
                asked: `Authorization.expires_at` tells.

        Raises:
            NotSignedIn: nobody is signed in.
            TokenRefused: the issuer does not accept the personal access token.
            PermanentRefreshError: the refresh token is dead and the access token expired; the message says what to do.
            TransientAuthError: a refresh was necessary and is not possible just now.

        Cancelling the caller does not cancel the refresh, because others may wait for it.
        """
        return self._flows.fresh.get(min_lifetime) or await self._flows.authorization(min_lifetime)

    def fresh_authorization(self, min_lifetime: float = 0.0) -> Authorization | None:
        """Return the authorization if its token is fresh. None if the token needs a refresh, even one in the
        background: call `authorization` then. Waits for nothing. Any thread may call it.

        Args:
            min_lifetime: seconds that the token must last.

        Raises:
            EngineNotStarted, EngineClosed: see `start` and `close`.
        """
        self._life.ensure_open()
        return self._flows.fresh.get(min_lifetime)

    async def recover(self, refused: Authorization) -> Authorization:
        """After a 401 for `refused`, return what to send the request again with.

        If the session has another usable token by now, this returns it at once. It never returns a managed token that
        has expired or that the backend refused before. All callers share one recovery. During the pause after a failed
        one, they get its reason. A parent is asked once for each request: if the backend refuses the returned
        authorization too, pass that one in.

        Raises:
            RecoveryExhausted: this mode has no way to another token, or the parent's new token was refused, too.
            PermanentRefreshError, TransientAuthError, NotSignedIn: the reason why there is no other token.
        """
        await self._flows.identity.ensure()
        return await self._flows.recovery.recover(refused)

    async def refresh(self, patience: float | None = None) -> Session:
        """Refresh a managed login now, whatever the clock says. Other logins are left alone.

        If another process stored newer tokens, this adopts them instead.

        Args:
            patience: seconds to wait. After that this returns, and the refresh continues. By default it waits for the
                end.

        Raises:
            PermanentRefreshError: the refresh token is dead. This is remembered: a dead token is never sent again.
            TransientAuthError: a refresh is not possible just now; nothing changed.
        """
        await self._flows.scheduler.refresh(patience)
        return self.session

    async def check(self, patience: float = 2.0) -> Session:
        """Find out whether an expired login can still be refreshed, and whose a personal access token is.

        Call it before the account is shown first.

        Raises nothing: what went wrong is in the session and in the events.

        Args:
            patience: seconds to wait. After that this returns, and the refresh continues.
        """
        self._flows.expiry.look()
        await self._flows.identity.check(patience)
        await self._flows.scheduler.check(patience)
        return self.session

    async def reload(self) -> bool:
        """Read the store and adopt other tokens of the same account. Returns whether there were any."""
        return await self._flows.scheduler.reload()

    # Signing in and out

    async def use_api_key(self, key: StaticCredentials | str) -> None:
        """Sign in with an API key or a personal access token, and store it. The issuer is asked whose the token is.

        Args:
            key: the key. Text may be as a person pastes it, see `ApiKey.parse`. It is a token if it begins with `at-`.

        Raises:
            InvalidCredentials: the text is no key; nothing changed.
            ExternalTokensActive, PolicyViolation: refused; nothing changed.
            TokenRefused, IssuerUnavailable: the issuer does not accept the token, or cannot be asked; nothing changed.
            StoreUnavailable: it could not be stored; the old login still works.
            RefreshInterrupted: a refresh that was under way has not ended within a minute; nothing changed.
        """
        identified = self._flows.identified(key)
        del key  # it may be text, which a traceback with local variables would show
        await self._flows.changes.sign_in(Trigger.USE_API_KEY, await identified)

    async def complete_chatgpt_login(self, tokens: ChatgptTokens) -> None:
        """Sign in with the tokens of a login and store them. Revoke the tokens that they replace, as best effort.

        Raises:
            ExternalTokensActive, PolicyViolation: refused; nothing changed.
            StoreUnavailable: they could not be stored; the old login still works.
            RefreshInterrupted: a refresh that was under way has not ended within a minute; nothing changed.
        """
        await self._flows.changes.sign_in(Trigger.COMPLETE_CHATGPT_LOGIN, tokens)

    async def begin_login(self, login_id: str, flow: LoginFlow) -> LoginAttempt:
        """Open a login attempt and supersede one that is open. The adapter that runs the attempt reports to it.

        Args:
            login_id: its name on the wire, a new UUID.
            flow: browser (10 minutes) or device code (15 minutes).

        Raises:
            ExternalTokensActive, LoginMethodForbidden: refused; nothing changed.
        """
        await self._flows.logins.settled()
        self._life.ensure_usable()  # it may have been closed meanwhile
        return self._flows.changes.begin_attempt(login_id, flow)

    async def cancel_login(self, login_id: str) -> bool:
        """Cancel a login attempt. Returns whether it was open. Waits instead for one that is being stored."""
        return await self._flows.logins.cancel(login_id)

    async def complete_login(self, attempt: LoginAttempt, tokens: ChatgptTokens) -> None:
        """Store the tokens of an attempt and end the attempt: it succeeds, or fails with the error that this raises.

        Raises:
            LoginAttemptEnded: it was over before; nothing changed.
            PolicyViolation, ExternalTokensActive, StoreUnavailable, RefreshInterrupted: the old login still works.

        Cancelling the caller before the tokens are stored fails the attempt.
        """
        await self._flows.changes.complete_attempt(attempt, tokens)

    async def use_external_tokens(self, tokens: ExternalTokens) -> None:
        """Use tokens that a parent owns. They are never stored, and what is stored stays.

        Raises:
            PolicyViolation: refused; nothing changed.
        """
        self._flows.external.allow(tokens)
        await self._flows.changes.use_external(tokens)

    async def log_out(self) -> None:
        """Remove what is stored, end the session, and revoke the newest refresh token in the background.

        Waits, bounded, for a refresh that is under way here or in another process, so that a late refresh cannot bring
        the login back. If the session uses the process's own API key, only the session ends, and what is stored stays.

        Raises:
            StoreUnavailable: the login could not be removed, or is of a kind that is not managed here; it is unchanged.
            RefreshInterrupted: a refresh that was under way has not ended within a minute; the login is unchanged.
        """
        await self._flows.changes.sign_out(keeps_store=self._flows.store_sync.is_own_key_in_use)

    def set_policy(self, policy: Policy) -> None:
        """Change the restrictions. Credentials that they forbid are refused at once; what is stored stays."""
        self._life.ensure_changeable()
        self._flows.changes.set_policy(policy)
