"""Logins, logouts and external tokens: one at a time, each applied completely or not at all.

What is stored changes under the store's lock, and only after a refresh that is under way has ended. So a late refresh
cannot bring a signed-out person back, and the refresh token that is revoked is the newest one.
"""

from asyncio import current_task, sleep

from authstate.engine.flows.engine_locks import EngineLocks
from authstate.engine.flows.login_attempts import LoginAttempts
from authstate.engine.flows.pending_tokens import PendingTokens
from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.flows.revocations import Revocations
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.machines.login_attempt import LoginAttempt, LoginFlow
from authstate.engine.model.arguments import ensure_instance
from authstate.engine.model.credentials import ChatgptTokens, ExternalTokens, StaticCredentials
from authstate.engine.model.errors import (
    AuthError,
    ExternalTokensActive,
    LoginAttemptEnded,
    StoreUnavailable,
    StoreUnreadable,
)
from authstate.engine.model.events import AccountUpdated, Listeners, LoginCompleted
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.session import Failure
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import CredentialStore, HeldStore


class SessionChanges:
    """Changes who is signed in."""

    def __init__(
        self,
        machine: AuthMachine,
        store: CredentialStore,
        scheduler: RefreshScheduler,
        pending: PendingTokens,
        locks: EngineLocks,
        revocations: Revocations,
        logins: LoginAttempts,
        listeners: Listeners,
    ) -> None:
        self._machine = machine
        self._store = store
        self._scheduler = scheduler
        self._pending = pending
        self._locks = locks
        self._revocations = revocations
        self._logins = logins
        self._listeners = listeners

    async def sign_in(
        self, trigger: Trigger, credentials: StaticCredentials | ChatgptTokens, attempt: LoginAttempt | None = None
    ) -> None:
        """Store credentials and use them. Revoke the tokens that they replace.

        Args:
            attempt: the login attempt that brought them. It succeeds.

        Raises:
            LoginAttemptEnded: the attempt was over before; nothing changed.
            ExternalTokensActive, PolicyViolation, StoreUnavailable, RefreshInterrupted: nothing changed.
        """
        async with self._locks.session:
            if attempt is not None:
                attempt.storing()
            if trigger is Trigger.COMPLETE_CHATGPT_LOGIN:
                ensure_instance(credentials, ChatgptTokens, "tokens", "ChatgptTokens, as ChatgptTokens.read makes them")
            self._machine.check(trigger, credentials)
            await self._scheduler.finish_or_cancel()
            async with self._locks.store, self._store.locked() as held:
                replaced = await self._newest_tokens(held)
                await held.save(credentials)
                # Announced under the lock: its release may wait, and a caller that is cancelled then is signed in.
                self._pending.discard()
                self._machine.fire(trigger, credentials)
                self._revocations.begin(replaced, credentials)
                if attempt is None:
                    self._logins.supersede("another login was completed")
                else:
                    attempt.stored()
                self._announce(attempt.login_id if attempt is not None else None)
        await _deliver_cancellation()

    def begin_attempt(self, login_id: str, flow: LoginFlow) -> LoginAttempt:
        """Open a login attempt; none may be storing its credentials. See `AuthEngine.begin_login`."""
        if self._machine.session.state is AuthState.EXTERNAL_TOKENS:
            raise ExternalTokensActive(Trigger.COMPLETE_CHATGPT_LOGIN, self._machine.session.state)
        if violation := self._machine.policy.method_violation(LoginMethod.CHATGPT):
            raise violation
        return self._logins.begin(login_id, flow)

    async def complete_attempt(self, attempt: LoginAttempt, tokens: ChatgptTokens) -> None:
        """Sign in with the tokens of a login attempt. See `AuthEngine.complete_login`."""
        try:
            await self.sign_in(Trigger.COMPLETE_CHATGPT_LOGIN, tokens, attempt)
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

    async def use_external(self, tokens: ExternalTokens) -> None:
        """Use a parent's tokens. Nothing stored changes. Raises PolicyViolation; then nothing changed."""
        async with self._locks.session:
            self._machine.fire(Trigger.USE_EXTERNAL_TOKENS, tokens)
            self._logins.supersede("the parent application passed tokens in")
            self._announce(None)

    async def sign_out(self, *, keeps_store: bool) -> None:
        """Remove what is stored, end the session and revoke the newest refresh token.

        Args:
            keeps_store: the session is not about what is stored, so only the session ends.

        Raises:
            StoreUnavailable, RefreshInterrupted: nothing changed.
        """
        self._logins.supersede("the person signed out")
        async with self._locks.session:
            await self._scheduler.finish_or_cancel()
            if keeps_store:
                self._signed_out(None)
            elif await self._has_nothing_to_remove():
                self._signed_out(self._pending.tokens)
            else:
                async with self._locks.store, self._store.locked() as held:
                    await self._ensure_managed(held)
                    replaced = await self._newest_tokens(held)
                    await held.delete()
                    # Announced under the lock: its release may wait, and a caller that is cancelled then is signed out.
                    self._signed_out(replaced)
        await _deliver_cancellation()

    def set_policy(self, policy: Policy) -> None:
        """Change the restrictions. See `AuthEngine.set_policy`."""
        ensure_instance(policy, Policy, "policy", "a Policy")
        self._machine.policy = policy
        credentials = self._machine.session.credentials
        violation = policy.violation(credentials) if credentials is not None else None
        if violation is not None:
            self._machine.fire(Trigger.CREDENTIALS_REFUSED, Failure(str(violation)))

    async def _ensure_managed(self, held: HeldStore) -> None:
        """Raise StoreUnreadable if a login of another kind is stored: it is not the login that ends."""
        try:
            await held.load()
        except StoreUnavailable as fault:  # anything else that cannot be read is removed
            if isinstance(fault, StoreUnreadable) and fault.other_login is not None:
                raise

    def _signed_out(self, replaced: ChatgptTokens | None) -> None:
        self._pending.discard()
        self._machine.fire(Trigger.LOG_OUT)
        self._revocations.begin(replaced)
        self._listeners.emit(AccountUpdated(None, None))

    async def _has_nothing_to_remove(self) -> bool:
        """Whether a logout needs no lock. A parent may own the tokens where nothing can be stored at all."""
        if self._machine.session.state is not AuthState.EXTERNAL_TOKENS:
            return False
        try:
            return await self._store.load() is None
        except StoreUnavailable:
            return False

    async def _newest_tokens(self, held: HeldStore) -> ChatgptTokens | None:
        """The newest tokens, to be revoked once they are replaced. What cannot be read cannot be revoked."""
        if self._pending.tokens is not None:
            return self._pending.tokens
        try:
            stored = await held.load()
        except StoreUnavailable as fault:
            self._listeners.warn("not_revoked", f"what was stored could not be read, so it was not revoked: {fault}")
            return None
        return stored if isinstance(stored, ChatgptTokens) else None

    def _announce(self, login_id: str | None) -> None:
        self._listeners.emit(LoginCompleted(login_id, success=True))
        self._listeners.emit(AccountUpdated.of(self._machine.session))


async def _deliver_cancellation() -> None:
    """Deliver a cancellation that came during a write, so that the caller's timeout gets it, and nothing after that."""
    if (task := current_task()) is not None and task.cancelling():
        await sleep(0)
