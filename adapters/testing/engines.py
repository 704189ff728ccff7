"""Engines in each of the five states, on an issuer, a backend and a clock in memory."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NoReturn, Unpack

from authstate.adapters.assembly import EngineOptions
from authstate.adapters.stores.memory import MemoryStore
from authstate.adapters.testing.fake_authority import FakeAuthority
from authstate.adapters.testing.fake_backend import FakeBackend
from authstate.adapters.testing.fake_parent import FakeParent
from authstate.adapters.testing.faults import Faults, FaultsInMemory
from authstate.adapters.testing.manual_clock import ManualClock
from authstate.adapters.testing.tokens import make_external_tokens
from authstate.adapters.testing.transcript import Transcript
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import (
    ChatgptTokens,
    Credentials,
    ExternalTokens,
    PersonalAccessToken,
    StaticCredentials,
    read_static_credentials,
)
from authstate.engine.model.errors import PermanentRefreshError, RefreshDeadReason
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.states import AuthState
from authstate.engine.ports import CredentialStore

if TYPE_CHECKING:
    from authstate.adapters.sync_engine import SyncAuthEngine

NO_WAITS: Final = RefreshSettings(first_wait=0.0, rechecks=(0.0, 0.0), save_waits=(0.0, 0.0))
"""The settings of these engines: no wait between two attempts, because a manual clock stands still."""

TEST_API_KEY: Final = "sk-test-0123456789"
"""The key of the state `api_key`, unless a test gives another one."""


class Engines:
    """Makes engines that are in a state when they start. All of them share the issuer, the backend and the clock.

        async with engines.chatgpt() as engine: ...

    Each engine has a store of its own, unless a test gives one.

    Args:
        clock: the clock of the engines and the issuer; by default a new one.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock: ManualClock = clock or ManualClock()
        """Stands still until the test advances it."""
        self.authority: FakeAuthority = FakeAuthority(clock=self.clock)
        """The issuer."""
        self.backend: FakeBackend = FakeBackend(self.authority)
        """The backend: it accepts the tokens of every engine that was made here."""
        self.parent: FakeParent = FakeParent()
        """The parent application of engines with external tokens. Tell it what to answer: `will_answer`."""
        self.faults: Faults = FaultsInMemory(self.authority, self.backend)
        """Faults of the issuer and the backend."""

    @property
    def transcript(self) -> Transcript:
        """What was sent to the issuer and the backend."""
        return self.authority.transcript

    def logged_out(self, *, store: CredentialStore | None = None, **options: Unpack[EngineOptions]) -> "EngineInState":
        """Make an engine with which nobody is signed in.

        Args:
            store: where the engine keeps its login; by default a `MemoryStore` of its own. Must be empty here.
            options: other arguments of `AuthEngine`.
        """
        return self._make(AuthState.LOGGED_OUT, None, store, options)

    def api_key(
        self,
        key: StaticCredentials | str = TEST_API_KEY,
        *,
        store: CredentialStore | None = None,
        **options: Unpack[EngineOptions],
    ) -> "EngineInState":
        """Make an engine that is signed in with an API key or a personal access token.

        Args:
            key: the key or the token. The backend accepts it, and the issuer says whose the token is.
            store: as for `logged_out`.
            options: as for `logged_out`.
        """
        credentials = read_static_credentials(key)
        if isinstance(credentials, PersonalAccessToken):
            text = credentials.token.reveal()
            self.authority.owners.setdefault(text, credentials.account or Account(account_id="org-1"))
        else:
            text = credentials.key.reveal()
        self.backend.accept(text, "key")
        return self._make(AuthState.API_KEY, credentials, store, options)

    def chatgpt(
        self,
        tokens: ChatgptTokens | None = None,
        *,
        store: CredentialStore | None = None,
        **options: Unpack[EngineOptions],
    ) -> "EngineInState":
        """Make an engine with a ChatGPT login whose access token lasts an hour.

        Args:
            tokens: the login; by default a new one. `engines.authority.issue(...)` makes one of somebody else.
            store: as for `logged_out`.
            options: as for `logged_out`.
        """
        tokens = self.authority.issue() if tokens is None else tokens
        return self._make(AuthState.CHATGPT, tokens, store, options)

    def external_tokens(
        self,
        tokens: ExternalTokens | None = None,
        *,
        store: CredentialStore | None = None,
        **options: Unpack[EngineOptions],
    ) -> "EngineInState":
        """Make an engine that uses the tokens of a parent application.

        Args:
            tokens: the tokens; by default new ones that last an hour. The backend accepts them.
            store: as for `logged_out`.
            options: as for `logged_out`.
        """
        external = make_external_tokens(now=self.clock.now()) if tokens is None else tokens
        self.backend.accept(external.access_token.reveal())
        return self._make(AuthState.EXTERNAL_TOKENS, external, store, {"parent": self.parent, **options})

    def refresh_dead(
        self,
        reason: RefreshDeadReason = RefreshDeadReason.REVOKED,
        *,
        store: CredentialStore | None = None,
        **options: Unpack[EngineOptions],
    ) -> "EngineInState":
        """Make an engine whose ChatGPT login has ended: its refresh token is dead. The access token lasts an hour.

        Args:
            reason: why the refresh token is dead.
            store: as for `logged_out`.
            options: as for `logged_out`.
        """
        tokens = self.authority.issue_dead(reason)
        return self._make(AuthState.REFRESH_DEAD, tokens, store, options, reason)

    def on(self, store: CredentialStore, **options: Unpack[EngineOptions]) -> "EngineInState":
        """Make an engine as another process does: it restores what the store holds, whatever that is.

        Args:
            store: the store, for example the `store` of what another method returned.
            options: as for `logged_out`.
        """
        return self._make(None, None, store, options)

    def in_state(self, state: AuthState | str) -> "EngineInState":
        """Make an engine in a state, for a test that has the state as a parameter.

        Raises:
            ValueError: there is no such state.
        """
        makers: dict[AuthState, Callable[[], EngineInState]] = {
            AuthState.LOGGED_OUT: self.logged_out,
            AuthState.API_KEY: self.api_key,
            AuthState.CHATGPT: self.chatgpt,
            AuthState.EXTERNAL_TOKENS: self.external_tokens,
            AuthState.REFRESH_DEAD: self.refresh_dead,
        }
        return makers[AuthState(state)]()

    def _make(
        self,
        state: AuthState | None,
        credentials: Credentials | None,
        store: CredentialStore | None,
        options: EngineOptions,
        reason: RefreshDeadReason | None = None,
    ) -> "EngineInState":
        store = MemoryStore() if store is None else store
        said: EngineOptions = {"clock": self.clock, "settings": NO_WAITS, **options}
        engine = AuthEngine(store, self.authority, **said)

        async def prepare() -> None:
            if credentials is not None and not isinstance(credentials, ExternalTokens):
                await _save(store, credentials, reason)

        async def settle(engine: AuthEngine) -> None:
            if isinstance(credentials, ExternalTokens):
                await engine.use_external_tokens(credentials)
            if reason is not None:
                await _find_dead(engine)
            found = engine.session.state
            assert state in (None, found), f"the engine is in the state {found}, not {state}: {engine.session.failure}"

        return EngineInState(engine, store, prepare, settle)


class EngineInState:
    """An engine that is in its state once it is entered. Enter it once:

        async with engine_in_state as engine: ...   # an AuthEngine, in this event loop
        with engine_in_state as engine: ...         # a SyncAuthEngine, for tests without an event loop

    Leaving it closes the engine.

    Raises:
        RuntimeError: it is entered a second time.
        AssertionError: the engine did not get into its state, for example because of a policy.
    """

    def __init__(
        self,
        engine: AuthEngine,
        store: CredentialStore,
        prepare: Callable[[], Awaitable[None]],
        settle: Callable[[AuthEngine], Awaitable[None]],
    ) -> None:
        self.engine: Final = engine
        """The engine. It can be given to the code under test before it is started."""
        self.store: Final = store
        """Where the engine keeps its login."""
        self._prepare = prepare
        self._settle = settle
        self._in_thread: SyncAuthEngine | None = None
        self._was_entered = False

    async def __aenter__(self) -> AuthEngine:
        self._ensure_first()
        try:
            await self._prepare()
            await self.engine.start()
            await self._settle(self.engine)
        except BaseException:
            await self.engine.close()
            raise
        return self.engine

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()

    def __enter__(self) -> "SyncAuthEngine":
        from anyio.from_thread import start_blocking_portal

        from authstate.adapters.sync_engine import SyncAuthEngine

        self._ensure_first()
        with start_blocking_portal() as portal:
            portal.call(self._prepare)
        engine = SyncAuthEngine(self.engine)
        try:
            engine.start()
            engine.call(self._settle)
        except BaseException:
            engine.close()
            raise
        self._in_thread = engine
        return engine

    def __exit__(self, *_: object) -> None:
        if self._in_thread is not None:
            self._in_thread.close()

    def _ensure_first(self) -> None:
        if self._was_entered:
            raise RuntimeError("this engine was entered before, and an engine starts once: make another one")
        self._was_entered = True

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"start the engine first: `async with ... as engine: engine.{name}`, or `with` in a test without a loop"
        )


async def _save(store: CredentialStore, credentials: Credentials, reason: RefreshDeadReason | None) -> None:
    async with store.locked() as held:
        await held.save(credentials)
        if reason is not None and isinstance(credentials, ChatgptTokens):
            fingerprint = fingerprint_of(credentials.refresh_token)
            await held.record(RefreshClaim(fingerprint, RefreshClaimState.DEAD, reason=reason, sends=1))


async def _find_dead(engine: AuthEngine) -> None:
    """Let the engine find the claim on its dead refresh token. No request is sent."""
    try:
        await engine.refresh()
    except PermanentRefreshError:
        return
