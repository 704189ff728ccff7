"""Logins, logouts and a parent's tokens, one at a time, each applied completely or not at all.

What is stored changes under the store's lock, and only after a refresh in flight has landed. So a late refresh can
never bring a signed-out person back, and it is the newest refresh token that is revoked.
"""

import asyncio

from authstate.engine.flows.login_attempts import LoginAttempts
from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.flows.revocations import Revocations
from authstate.engine.machines.auth import AuthMachine, Fire
from authstate.engine.machines.login import LoginAttempt
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens
from authstate.engine.model.errors import StoreUnavailable, StoreUnreadable
from authstate.engine.model.events import AccountUpdated, LoginCompleted
from authstate.engine.model.listeners import Listeners
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import CredentialStore, HeldStore


class SessionChanges:
    """`lock` is held while who is signed in changes. `fire` pulls a trigger."""

    def __init__(
        self,
        machine: AuthMachine,
        store: CredentialStore,
        scheduler: RefreshScheduler,
        revocations: Revocations,
        logins: LoginAttempts,
        listeners: Listeners,
        fire: Fire,
    ) -> None:
        self.lock = asyncio.Lock()
        self._machine = machine
        self._store = store
        self._scheduler = scheduler
        self._revocations = revocations
        self._logins = logins
        self._listeners = listeners
        self._fire = fire

    async def sign_in(
        self, trigger: Trigger, credentials: ApiKey | ChatgptTokens, attempt: LoginAttempt | None = None
    ) -> None:
        """Store credentials and act with them; the tokens that they replace are revoked. An attempt succeeds by it.

        Raises:
            LoginAttemptEnded: the attempt was over before; nothing changed.
            ExternalTokensActive, PolicyViolation, StoreUnavailable, RefreshInterrupted: nothing changed.
        """
        async with self.lock:
            if attempt is not None:
                attempt.storing()
            self._machine.check(trigger, credentials)
            await self._scheduler.finish_or_cancel()
            async with self._scheduler.storing, self._store.locked() as held:
                replaced = await self._stored_tokens(held)
                await held.save(credentials)
                # Told under the lock: its release may wait, and a caller that is cancelled then is signed in.
                self._scheduler.refresher.clear_pending_write()
                self._fire(trigger, credentials)
                self._revocations.begin(replaced, credentials)
                if attempt is None:
                    self._logins.supersede("another login was completed")
                else:
                    attempt.stored()
                self._announce(attempt.login_id if attempt is not None else None)

    async def take_external(self, tokens: ExternalTokens) -> None:
        """Act with a parent's tokens; nothing stored changes. Raises PolicyViolation; then nothing changed."""
        async with self.lock:
            self._fire(Trigger.USE_EXTERNAL_TOKENS, tokens)
            self._logins.supersede("the parent application passed tokens in")
            self._announce(None)

    async def sign_out(self, *, keeps_store: bool = False) -> None:
        """Remove what is stored and forget it; revoke the newest refresh token.

        Args:
            keeps_store: who is signed in is not what is stored, so only the session ends.

        Raises:
            StoreUnavailable, RefreshInterrupted: nothing changed.
        """
        self._logins.supersede("the person signed out")
        async with self.lock:
            await self._scheduler.finish_or_cancel()
            if keeps_store:
                self._signed_out(None)
            elif await self._has_nothing_to_remove():
                pending_write = self._scheduler.refresher.pending_write
                self._signed_out(pending_write.tokens if pending_write is not None else None)
            else:
                async with self._scheduler.storing, self._store.locked() as held:
                    await self._ensure_managed(held)
                    replaced = await self._stored_tokens(held)
                    await held.delete()
                    # Told under the lock: its release may wait, and a caller that is cancelled then is signed out.
                    self._signed_out(replaced)

    async def _ensure_managed(self, held: HeldStore) -> None:
        """Raise StoreUnreadable when a login of another kind is stored: it is not the one that ends."""
        try:
            await held.load()
        except StoreUnavailable as fault:  # what else cannot be read is removed
            if isinstance(fault, StoreUnreadable) and fault.is_other_login:
                raise

    def _signed_out(self, replaced: ChatgptTokens | None) -> None:
        self._scheduler.refresher.clear_pending_write()
        self._fire(Trigger.LOG_OUT, None)
        self._revocations.begin(replaced)
        self._listeners.emit(AccountUpdated(None, None))

    async def _has_nothing_to_remove(self) -> bool:
        """A parent may own the tokens where nothing can be stored at all: then a logout needs no lock."""
        if self._machine.session.state is not AuthState.EXTERNAL_TOKENS:
            return False
        try:
            return await self._store.load() is None
        except StoreUnavailable:
            return False

    async def _stored_tokens(self, held: HeldStore) -> ChatgptTokens | None:
        """The newest tokens, to be revoked once they are replaced. What cannot be read cannot be revoked."""
        pending_write = self._scheduler.refresher.pending_write
        if pending_write is not None:
            return pending_write.tokens
        try:
            stored = await held.load()
        except StoreUnavailable as fault:
            self._listeners.warn("not_revoked", f"what was stored could not be read, so it was not revoked: {fault}")
            return None
        return stored if isinstance(stored, ChatgptTokens) else None

    def _announce(self, login_id: str | None) -> None:
        self._listeners.emit(LoginCompleted(login_id, success=True))
        self._listeners.emit(AccountUpdated.of(self._machine.session))
