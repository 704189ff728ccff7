"""StoreSync takes what is stored into the session: at the start, and after another process signed in or out.

Following another process keeps to who is signed in. New tokens of the same account are left to who needs them, unless
the caller has no request under way: a refresh and the 401 recovery look for them, and whoever is handed them too early
asks for still newer ones.
"""

import asyncio

from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.machines.auth import AuthMachine, Fire
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import PolicyViolation, StoreUnavailable
from authstate.engine.model.events import AccountUpdated
from authstate.engine.model.listeners import Listeners
from authstate.engine.model.session import Failure
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import CredentialStore, HasRevision

_LONGEST_PAUSE = 63  # looks


class StoreSync:
    """What the store holds, as far as this process acts with it. `fire` pulls a trigger."""

    def __init__(
        self,
        machine: AuthMachine,
        store: CredentialStore,
        scheduler: RefreshScheduler,
        listeners: Listeners,
        fire: Fire,
    ) -> None:
        self._machine = machine
        self._store = store
        self._scheduler = scheduler
        self._listeners = listeners
        self._fire = fire
        self._revisions = store if isinstance(store, HasRevision) else None
        self._seen: object = None  # the stamp at the last look
        self._known: object = None  # the same, once two looks found it
        self._pause = 0  # looks to leave out after the next one that fails
        self._left_out = 0  # of these, how many are still to come

    def take(self, stored: Credentials) -> None:
        """Act with what is stored, or remember why a policy forbids it; once for each reason."""
        trigger = Trigger.USE_API_KEY if isinstance(stored, ApiKey) else Trigger.COMPLETE_CHATGPT_LOGIN
        try:
            self._fire(trigger, stored)
        except PolicyViolation as violation:
            if self._machine.session.failure != (refusal := Failure(str(violation))):
                self._fire(Trigger.CREDENTIALS_REFUSED, refusal)

    async def follow(self, doors: asyncio.Lock, *, adopt: bool = False) -> None:
        """See `AuthEngine.follow`. `doors` is held while this process lets somebody in or out.

        It takes no lock, for a store may take its time: what it found counts only if nothing moved meanwhile.
        """
        revision = self._revisions.revision() if self._revisions is not None else None
        before = self._machine.session
        if (revision is not None and revision == self._known) or self._is_busy(doors):
            return
        if revision == self._seen and self._left_out:
            self._left_out -= 1
            return
        try:
            stored = await self._store.load()
        except StoreUnavailable:
            self._note_fault(revision)
            return
        self._pause = self._left_out = 0
        if self._machine.session is not before or self._is_busy(doors):
            return
        self._act_as(stored)
        has_newer = self._has_newer(stored)
        if self._machine.session.state is AuthState.REFRESH_DEAD:
            await self._scheduler.reload()
        is_told = self._machine.session is not before
        if adopt and has_newer:
            await self._scheduler.reload()
        # A store may show the sign of a change just before the change: a stamp is trusted at the second look.
        is_settled = revision == self._seen and (adopt or not has_newer)  # else it is looked at until it may be adopted
        self._known, self._seen = (revision if is_settled else None), revision
        if is_told:
            self._listeners.emit(AccountUpdated.of(self._machine.session))

    def _note_fault(self, revision: object) -> None:
        """Leave out more looks after each fault, until the stamp is another: a keyring may ask a person each time."""
        self._left_out = self._pause if revision == self._seen else 0
        self._pause = min(2 * self._left_out + 1, _LONGEST_PAUSE)
        self._seen = revision

    def _is_busy(self, doors: asyncio.Lock) -> bool:
        """Whether this process is about to change what is stored, or acts with what is not stored."""
        is_external = self._machine.session.state is AuthState.EXTERNAL_TOKENS
        is_changing = doors.locked() or self._scheduler.storing.locked()
        return is_external or is_changing or self._scheduler.refresher.pending_write is not None

    def _has_newer(self, stored: Credentials | None) -> bool:
        """Whether what is stored are other tokens of the account that is signed in."""
        current = self._machine.session.credentials
        if not isinstance(stored, ChatgptTokens) or not isinstance(current, ChatgptTokens):
            return False
        return stored.account.is_same_as(current.account) and not stored.is_same_material_as(current)

    def _act_as(self, stored: Credentials | None) -> None:
        current = self._machine.session.credentials
        if isinstance(stored, ChatgptTokens) and isinstance(current, ChatgptTokens):
            is_same = stored.account.is_same_as(current.account)
        else:
            is_same = stored == current
        if is_same:
            return
        if stored is None:
            self._fire(Trigger.LOG_OUT, None)
        else:
            self.take(stored)
