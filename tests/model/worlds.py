"""Real engines, with a store and an issuer that record what they are asked and fail if the test says so."""

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from model.reference import Answer
from support.prompt_disk import PromptDisk

from authstate import AuthEngine, Policy, RefreshSettings
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.events import Event, StateChanged
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Session
from authstate.engine.ports import CredentialStore, HeldStore, RefreshedTokens
from authstate.testing import FakeAuthority, FakeParent, ManualClock, MemoryStore

T = TypeVar("T")

SETTINGS = RefreshSettings(first_wait=0.0, rechecks=(0.0, 0.0), save_waits=(0.0, 0.0))


class WatchedStore:
    """A store that counts saves and deletions. The operations named in `broken` fail."""

    def __init__(self, inner: CredentialStore) -> None:
        self.inner = inner
        self.broken: set[str] = set()
        self.saves = 0
        self.deletes = 0

    def describe(self) -> str:
        return self.inner.describe()

    def fail_if(self, what: str) -> None:
        if what in self.broken:
            raise StoreUnavailable(f"the test broke: {what}")

    async def load(self) -> Credentials | None:
        self.fail_if("load")
        return await self.inner.load()

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        return await self.inner.claim_on(fingerprint)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        self.fail_if("lock")
        async with self.inner.locked() as held:
            yield WatchedHeld(self, held)


class WatchedHeld:
    """The locked `WatchedStore`."""

    def __init__(self, store: WatchedStore, inner: HeldStore) -> None:
        self.store = store
        self.inner = inner

    async def load(self) -> Credentials | None:
        return await self.store.load()

    async def prepare(self) -> None:
        self.store.fail_if("prepare")
        await self.inner.prepare()

    async def save(self, credentials: Credentials) -> None:
        self.store.fail_if("save")
        await self.inner.save(credentials)
        self.store.saves += 1

    async def delete(self) -> None:
        self.store.fail_if("delete")
        await self.inner.delete()
        self.store.deletes += 1

    async def record(self, claim: RefreshClaim) -> None:
        await self.inner.record(claim)


class WatchedAuthority:
    """The token endpoint of one engine. It passes requests to the shared issuer and records the answers."""

    def __init__(self, name: str, issuer: FakeAuthority, answers: "deque[Answer]") -> None:
        self.name = name
        self.issuer = issuer
        self.answers = answers
        self.settled: list[str] = []
        """Refresh tokens that this engine sent and that the issuer accepted or refused permanently."""

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        token = refresh_token.reveal()
        try:
            granted = await self.issuer.refresh(refresh_token)
        except Exception as error:
            self.answers.append(Answer(self.name, token, error))
            if not isinstance(error, StoreUnavailable) and not hasattr(error, "retry_after"):
                self.settled.append(token)
            raise
        self.answers.append(Answer(self.name, token, granted))
        self.settled.append(token)
        return granted

    async def revoke(self, refresh_token: Secret) -> None:
        await self.issuer.revoke(refresh_token)


class RealWorld:
    """The store, the issuer, the clock and the event loop of one run."""

    def __init__(self, *, on_disk: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.issuer = FakeAuthority(clock=self.clock)
        self.answers: deque[Answer] = deque()
        self.home = tempfile.TemporaryDirectory() if on_disk else None
        self.inner: CredentialStore = (
            AuthJsonStore(Path(self.home.name), disk=PromptDisk()) if self.home else MemoryStore()
        )
        self.store = WatchedStore(self.inner)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine until it and all background tasks have ended. The next step then begins without tasks."""

        async def quietly() -> T:
            try:
                return await work
            finally:
                while others := asyncio.all_tasks() - {asyncio.current_task()}:
                    done, _ = await asyncio.wait(others, timeout=20)
                    assert done, f"still running: {others}"

        return self.loop.run_until_complete(quietly())

    def foreign(self, credentials: ApiKey | ChatgptTokens | None) -> None:
        """Change the stored login as another program does. None deletes it."""

        async def change() -> None:
            async with self.inner.locked() as held:
                if credentials is None:
                    await held.delete()
                else:
                    await held.save(credentials)

        self.run(change())

    def stored(self) -> Credentials | None:
        return self.run(self.inner.load())

    def close(self) -> None:
        self.loop.close()
        if self.home is not None:
            self.home.cleanup()


class RealEngine:
    """An engine with its events, and the session that follows from them in `replayed`."""

    def __init__(self, name: str, world: RealWorld, policy: Policy) -> None:
        self.authority = WatchedAuthority(name, world.issuer, world.answers)
        self.parent = FakeParent()
        store = world.store
        self.engine = AuthEngine(
            store, self.authority, parent=self.parent, policy=policy, clock=world.clock, settings=SETTINGS
        )
        self.replayed = Session()
        self.events: list[Event] = []
        self.engine.subscribe(self.on_event)

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, StateChanged):
            assert event.previous is self.replayed or event.previous == self.replayed
            assert event.current.generation == event.previous.generation + 1
            self.replayed = event.current
