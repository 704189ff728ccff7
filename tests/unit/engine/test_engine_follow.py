"""What another process did to the stored login is followed: who is signed in there is signed in here."""

import asyncio

import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.flows.open_refresh_claim import OpenRefreshClaim
from authstate.engine.flows.pending_tokens import RefreshResult
from authstate.engine.machines.refresh_claim import RefreshClaim, fingerprint_of
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import EngineClosed, PermanentRefreshError, RefreshDeadReason, StoreUnavailable
from authstate.engine.model.events import AccountUpdated, Event
from authstate.engine.model.policy import Policy
from authstate.engine.model.states import AuthState
from authstate.engine.ports import HasRevision
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_external_tokens, make_tokens

KEY = ApiKey.parse("sk-1")
ONE, TWO = make_tokens(), make_tokens(account_id="org-2")


class StampedStore(MemoryStore):
    """A store that tells when it was changed."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        super().__init__(credentials)
        self.mark: object = 0
        self.is_broken = False
        self.asked = 0

    def revision(self) -> object:
        return self.mark

    async def load(self) -> Credentials | None:
        self.asked += 1
        if self.is_broken:
            raise StoreUnavailable("the test broke it")
        return await super().load()


def heard(engine: AuthEngine) -> list[AccountUpdated]:
    events: list[AccountUpdated] = []

    def on_event(event: Event) -> None:
        if isinstance(event, AccountUpdated):
            events.append(event)

    engine.subscribe(on_event)
    return events


@pytest.mark.parametrize(
    ("before", "after", "state", "mode"),
    [
        (ONE, None, "logged_out", None),
        (KEY, None, "logged_out", None),
        (ONE, TWO, "chatgpt", "chatgpt"),
        (ONE, KEY, "api_key", "apikey"),
        (KEY, ONE, "chatgpt", "chatgpt"),
        (KEY, ApiKey.parse("sk-2"), "api_key", "apikey"),
        (None, ONE, "chatgpt", "chatgpt"),
    ],
)
async def test_another_login_or_none(
    before: Credentials | None, after: Credentials | None, state: str, mode: str | None
) -> None:
    store, authority = MemoryStore(before), FakeAuthority()
    async with AuthEngine(store, authority) as engine:
        told = heard(engine)
        store.credentials = after
        session = await engine.follow()
        assert (session.state, session.credentials, session.generation) == (state, after, 1 + (before is not None))
        assert [event.auth_mode for event in told] == [mode]
        assert await engine.follow() is session
        assert len(told) == 1
    assert authority.sent == authority.revoked == []


@pytest.mark.parametrize("stored", [None, KEY, ONE, make_tokens()])
async def test_nothing_happens_where_the_account_is_the_same(stored: Credentials | None) -> None:
    store = MemoryStore(ONE if stored not in (None, KEY) else stored)
    async with AuthEngine(store, FakeAuthority()) as engine:
        before, told = engine.session, heard(engine)
        store.credentials = stored
        assert await engine.follow() is before
        assert told == []


async def test_what_is_not_stored_stays() -> None:
    store = MemoryStore(ONE)
    async with AuthEngine(store, FakeAuthority(), api_key=KEY) as engine:
        store.credentials = None
        assert (await engine.follow()).credentials is KEY
        await engine.complete_chatgpt_login(ONE)
        store.credentials = None
        assert (await engine.follow()).state is AuthState.LOGGED_OUT, "a login that is stored took the key's place"
    async with AuthEngine(store, FakeAuthority()) as engine:
        await engine.use_external_tokens(make_external_tokens())
        assert (await engine.follow()).state is AuthState.EXTERNAL_TOKENS


async def test_a_dead_login_comes_to_life_with_the_newer_tokens_of_its_account() -> None:
    store, authority = MemoryStore(ONE), FakeAuthority()
    authority.accept(ONE)
    async with AuthEngine(store, authority) as engine:
        authority.kill(RefreshDeadReason.REVOKED)
        with pytest.raises(PermanentRefreshError):
            await engine.refresh()
        dead = engine.session
        assert await engine.follow() is dead
        told = heard(engine)
        newer = store.credentials = authority.issue()
        assert (await engine.follow()).credentials == newer
        assert [event.auth_mode for event in told] == ["chatgpt"]


@pytest.mark.parametrize("adopt", [False, True])
async def test_newer_tokens_of_the_same_account_are_adopted_only_on_demand(adopt: bool) -> None:
    store, authority = MemoryStore(ONE), FakeAuthority(ONE)
    async with AuthEngine(store, authority) as engine:
        told = heard(engine)
        newer = store.credentials = authority.issue()
        followed = await engine.follow(adopt=adopt)
        assert followed.credentials is (newer if adopt else ONE)
        assert told == [], "the same account is signed in"


async def test_what_a_policy_forbids_ends_the_login() -> None:
    store = MemoryStore(ONE)
    async with AuthEngine(store, FakeAuthority(), policy=Policy(forced_workspaces=("org-1",))) as engine:
        store.credentials = TWO
        refused = await engine.follow()
        assert refused.state is AuthState.LOGGED_OUT
        assert refused.failure is not None
        assert "org-2" in refused.failure.message
        assert await engine.follow() is refused


async def test_a_store_that_tells_of_no_change_is_read_no_more() -> None:
    store = StampedStore(ONE)
    assert isinstance(store, HasRevision)
    async with AuthEngine(store, FakeAuthority()) as engine:
        for _ in range(5):
            await engine.follow()
        assert store.loads == 3  # the start, and two looks: a stamp may come just before its change
        store.credentials = None
        assert (await engine.follow()).state is AuthState.CHATGPT
        store.mark = 1
        assert (await engine.follow()).state is AuthState.LOGGED_OUT
        store.credentials = TWO
        assert (await engine.follow()).credentials is TWO
        store.mark, store.is_broken, store.credentials = 2, True, ONE
        assert (await engine.follow()).credentials is TWO
        store.is_broken = False
        assert (await engine.follow()).credentials is ONE


async def test_what_cannot_be_read_is_asked_ever_more_rarely_until_it_changes() -> None:
    """A keyring that is locked may ask the person for its password at each look."""
    store = StampedStore(ONE)
    async with AuthEngine(store, FakeAuthority()) as engine:
        store.is_broken, asked = True, store.asked
        for _ in range(600):
            assert (await engine.follow()).credentials is ONE
        assert 10 < store.asked - asked < 20
        store.mark, store.is_broken, store.credentials = 1, False, TWO
        assert (await engine.follow()).credentials is TWO
        store.credentials = ONE
        assert (await engine.follow()).credentials is ONE, "the second look at a new stamp is not left out"
        store.mark, store.is_broken, asked = 2, True, store.asked
        await engine.follow()
        await engine.follow()
        assert store.asked == asked + 2, "the pauses begin anew"


async def test_it_keeps_out_of_the_way_of_a_login_and_of_a_refresh() -> None:
    store, authority = StampedStore(ONE), FakeAuthority()
    authority.accept(ONE)
    async with AuthEngine(store, authority) as engine:
        async with store.locked():
            login = asyncio.ensure_future(engine.use_api_key(KEY))
            await asyncio.sleep(0)
            store.credentials = None
            assert (await engine.follow()).state is AuthState.CHATGPT
            login.cancel()
        store.credentials = ONE
        authority.hold()
        task = asyncio.ensure_future(engine.refresh())
        await authority.asked()
        store.credentials = TWO
        assert (await engine.follow()).credentials is ONE
        authority.release()
        await asyncio.wait((task,))


@pytest.mark.parametrize("change", ["login", "logout", "refresh", "parent"])
async def test_a_store_that_takes_its_time_keeps_nobody_waiting_and_what_it_brings_late_does_not_count(
    change: str,
) -> None:
    """A keyring may ask a person first."""
    store, authority = SlowStore(ONE), FakeAuthority()
    authority.accept(ONE)
    async with AuthEngine(store, authority) as engine:
        store.found, store.credentials = asyncio.Event(), TWO
        follow = asyncio.ensure_future(engine.follow())
        await asyncio.sleep(0)
        found, store.found, store.credentials = store.found, None, ONE
        if change == "login":
            await engine.use_api_key(KEY)
        elif change == "logout":
            await engine.log_out()
        elif change == "refresh":
            await engine.refresh()
        else:
            await engine.use_external_tokens(make_external_tokens())
        after = engine.session
        assert after.generation == 2
        found.set()
        assert await follow is after


class SlowStore(MemoryStore):
    """A store that has found what it holds, and does not tell before `found` is set."""

    found: asyncio.Event | None = None

    async def load(self) -> Credentials | None:
        stored, found = await super().load(), self.found
        if found is not None:
            await found.wait()
        return stored


async def test_tokens_that_could_not_be_stored_are_kept() -> None:
    store, authority = MemoryStore(ONE), FakeAuthority()
    authority.accept(ONE)
    async with AuthEngine(store, authority) as engine:
        claim = OpenRefreshClaim(RefreshClaim(fingerprint_of(ONE.refresh_token)), ManualClock())
        engine._flows.scheduler._pending.keep(RefreshResult(TWO, was_adopted=False), claim)
        store.credentials = None
        assert (await engine.follow()).credentials is ONE
        engine._flows.scheduler._pending.discard()


async def test_a_closed_engine_follows_nobody() -> None:
    engine = AuthEngine(MemoryStore(), FakeAuthority())
    await engine.close()
    with pytest.raises(EngineClosed):
        await engine.follow()
