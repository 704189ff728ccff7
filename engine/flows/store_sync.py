"""Brings what is stored into the session: at the start, and after another process signed in or out.

New tokens of the same account are left to callers that need them: a refresh and the 401 recovery look for them. If they
were adopted while a request with the older token is under way, its 401 would ask for still newer ones. So `follow`
adopts them only when its caller says that no request is under way.

Where somebody can select another account, its login is read first. Then the store and the session change over in one
step, so no refresh ever meets the store of one account with the tokens of another.
"""

from authstate.engine.flows.engine_locks import EngineLocks
from authstate.engine.flows.login_attempts import LoginAttempts
from authstate.engine.flows.pending_tokens import PendingTokens
from authstate.engine.flows.refresh_scheduler import RefreshScheduler
from authstate.engine.flows.token_identity import TokenIdentity
from authstate.engine.machines.auth_state import AuthMachine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.events import AccountUpdated, Event, Listeners, StateChanged
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import CredentialStore, FollowsSelection, HasRevision

_MAX_SKIPPED = 63  # looks in a row, at a store that cannot be read
_IDENTIFIED_WITHIN = 2.0  # seconds until a sign-in is announced without the owner of its token
_USED_THE_STORE = (Trigger.USE_API_KEY, Trigger.COMPLETE_CHATGPT_LOGIN, Trigger.LOG_OUT)


class StoreSync:
    """Keeps the session in step with the store.

    Args:
        own_key: the process's own API key. It is used instead of what is stored, and never stored.
    """

    def __init__(
        self,
        machine: AuthMachine,
        store: CredentialStore,
        scheduler: RefreshScheduler,
        pending: PendingTokens,
        locks: EngineLocks,
        identity: TokenIdentity,
        logins: LoginAttempts,
        listeners: Listeners,
        own_key: ApiKey | None,
    ) -> None:
        self.fault: StoreUnavailable | None = None
        """Why the store could not be read at the start. None once it was read or written."""
        self._machine = machine
        self._store = store
        self._scheduler = scheduler
        self._pending = pending
        self._locks = locks
        self._identity = identity
        self._logins = logins
        self._listeners = listeners
        self._own_key = own_key
        self._revisions = store if isinstance(store, HasRevision) else None
        self._selection = store if isinstance(store, FollowsSelection) else None
        self._last_revision: object = None  # at the last look
        self._settled_revision: object = None  # the same, once two looks in a row found it
        self._next_skip = 0  # looks to skip after the next one that fails
        self._to_skip = 0  # looks that are still to be skipped
        listeners.subscribe(self._on_event)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, StateChanged) and event.trigger in _USED_THE_STORE:
            self.fault = None

    @property
    def is_own_key_in_use(self) -> bool:
        """Whether the session uses the process's own API key, so that it is not about what is stored."""
        return self._own_key is not None and self._machine.session.credentials is self._own_key

    def why_nobody(self) -> str:
        """Why nobody is signed in, for a person, if no failure of the session says so."""
        if self.fault is not None:
            return f"nobody is signed in: {self.fault}"
        return f"nobody is signed in, because there is no login in {self._store.describe()}: sign in first"

    async def start(self) -> None:
        """Use the process's own API key, or else what is stored. A store that cannot be read counts as empty: the
        reason is in `fault` and in a warning.
        """
        if self._own_key is not None:
            self._machine.restore(self._own_key)
            return
        try:
            stored = self._identity.completed(await self._store.load())
        except StoreUnavailable as fault:
            self.fault = fault.without_traceback()
            self._listeners.warn("store_unreadable", str(fault))
        else:
            if stored is not None:
                self._machine.restore(stored)

    async def restore(self) -> None:
        """Use what is stored, if nobody is signed in and no login or logout is under way. Raises nothing."""
        if self._machine.session.state is not AuthState.LOGGED_OUT or self._locks.session.locked():
            return
        async with self._locks.session:
            other = self._selected_store()
            try:
                stored = self._identity.completed(await (other or self._store).load())
            except StoreUnavailable:
                return
            self._change_over(other)
            self.fault = None
            if stored is not None:
                self._machine.restore(stored)

    async def follow(self, *, adopt: bool, switch: bool) -> None:
        """See `AuthEngine.follow`.

        It takes no lock, because reading a store may take long. What it reads counts only if nothing changed meanwhile.
        """
        if self._must_not_follow():
            return
        other = self._selected_store() if switch else None
        revision = self._revision()
        before = self._machine.session
        if other is None and revision is not None and revision == self._settled_revision:
            return
        if revision == self._last_revision and self._to_skip:
            self._to_skip -= 1
            return
        try:
            stored = self._identity.completed(await (other or self._store).load())
        except StoreUnavailable as fault:
            if other is not None and not self._next_skip:
                self._listeners.warn("store_unreadable", f"the account that is selected now is not used yet: {fault}")
            self._skip_more(revision)
            return
        self._next_skip = self._to_skip = 0
        if self._machine.session is not before or self._must_not_follow():
            return
        if other is not None:
            self._change_over(other)
            revision = self._revision()
        self._apply(stored)
        has_newer = self._has_newer(stored)
        if self._machine.session.state is AuthState.REFRESH_DEAD:
            await self._scheduler.reload()
        is_announced = self._machine.session is not before
        if adopt and has_newer:
            await self._scheduler.reload()
        # The revision may change just before the content does, so a revision counts as read at the second look. Newer
        # tokens are looked at until they may be adopted.
        is_settled = revision == self._last_revision and (adopt or not has_newer)
        self._settled_revision, self._last_revision = (revision if is_settled else None), revision
        if is_announced:
            await self._identity.check(_IDENTIFIED_WITHIN)
            self._listeners.emit(AccountUpdated.of(self._machine.session))

    def _revision(self) -> object:
        return self._revisions.revision() if self._revisions is not None else None

    def _selected_store(self) -> CredentialStore | None:
        """The store of another account that is selected now. None if there is none."""
        return self._selection.selected_store() if self._selection is not None else None

    def _change_over(self, other: CredentialStore | None) -> None:
        """Use the store of another account. A login that is open was meant for the account before."""
        if other is not None and self._selection is not None:
            self._selection.use_store(other)
            self._logins.supersede("another account was selected")
            self.fault = None

    def _must_not_follow(self) -> bool:
        """Whether the session is not about what is stored, or this process is about to change what is stored."""
        is_external = self._machine.session.state is AuthState.EXTERNAL_TOKENS
        return is_external or self.is_own_key_in_use or self._locks.is_any_held or self._pending.tokens is not None

    def _skip_more(self, revision: object) -> None:
        """Skip more looks after each failed one, until the revision changes: a keyring may ask a person each time."""
        self._to_skip = self._next_skip if revision == self._last_revision else 0
        self._next_skip = min(2 * self._to_skip + 1, _MAX_SKIPPED)
        self._last_revision = revision

    def _has_newer(self, stored: Credentials | None) -> bool:
        """Whether the store holds other tokens of the account that is signed in."""
        current = self._machine.session.credentials
        if not isinstance(stored, ChatgptTokens) or not isinstance(current, ChatgptTokens):
            return False
        return stored.account.is_same_as(current.account) and not stored.is_same_material_as(current)

    def _apply(self, stored: Credentials | None) -> None:
        """Sign in or out as another process did. Tokens of the same account change nothing."""
        current = self._machine.session.credentials
        if isinstance(stored, ChatgptTokens) and isinstance(current, ChatgptTokens):
            is_same = stored.account.is_same_as(current.account)
        else:
            is_same = stored == current
        if is_same:
            return
        if stored is None:
            self._machine.fire(Trigger.LOG_OUT)
        else:
            self._machine.restore(stored)
