"""An engine whose store can change over to another account: the store and the session change in one step."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.machines.login_attempt import LoginFlow
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import LoginAttemptEnded, StoreUnavailable
from authstate.engine.model.events import AccountUpdated, Event, Warned
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.states import AuthState
from authstate.engine.ports import CredentialStore, HeldStore
from authstate.testing import FakeAuthority, MemoryStore, make_tokens

ONE, TWO = make_tokens(), make_tokens(account_id="org-2", email="two@example.com")
KEY = ApiKey.parse("sk-1")


class OneOfTwo(MemoryStore):
    """Two stores, one of which is in use. A test selects one, breaks them and makes them slow."""

    def __init__(self, first: Credentials | None, second: Credentials | None) -> None:
        super().__init__()
        self.stores = [PartOfTwo(first), PartOfTwo(second)]
        self.selected = 0
        self.used: PartOfTwo = self.stores[0]

    def selected_store(self) -> CredentialStore | None:
        other = self.stores[self.selected]
        return None if other is self.used else other

    def use_store(self, store: CredentialStore) -> None:
        assert isinstance(store, PartOfTwo)
        self.used = store

    def __getattribute__(self, name: str) -> object:
        return getattr(self.used, name) if name in ("load", "claim_on", "locked") else super().__getattribute__(name)


class PartOfTwo(MemoryStore):
    fault: StoreUnavailable | None = None
    gate: asyncio.Event | None = None
    is_full = False

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        async with super().locked() as held:
            if self.is_full:
                vars(held)["save"] = refuse
            yield held

    async def load(self) -> Credentials | None:
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await super().load()


async def refuse(_: Credentials) -> None:
    raise StoreUnavailable("the disk is full")


def events_of(engine: AuthEngine) -> list[Event]:
    events: list[Event] = []
    engine.subscribe(events.append)
    return events


@pytest.mark.parametrize(
    ("second", "state"), [(TWO, "chatgpt"), (KEY, "api_key"), (None, "logged_out")], ids=["tokens", "key", "nobody"]
)
async def test_the_selected_account_is_used_from_the_next_look_on(
    second: ChatgptTokens | ApiKey | None, state: str
) -> None:
    store = OneOfTwo(ONE, second)
    async with AuthEngine(store, FakeAuthority()) as engine:
        events = events_of(engine)
        store.selected = 1
        session = await engine.follow()
        assert (session.state, session.credentials) == (state, second)
        assert [event for event in events if isinstance(event, AccountUpdated)] == [AccountUpdated.of(session)]
        store.selected = 0
        assert (await engine.follow()).credentials is ONE


async def test_nothing_changes_over_while_the_caller_forbids_it() -> None:
    store = OneOfTwo(ONE, TWO)
    async with AuthEngine(store, FakeAuthority(ONE)) as engine:
        store.selected = 1
        for _ in range(3):
            assert (await engine.follow(switch=False)).credentials is ONE
        await engine.refresh()
        assert engine.session.account == ONE.account
        assert (await engine.follow()).credentials is TWO


async def test_a_refresh_that_is_under_way_stays_with_its_account() -> None:
    store, authority = OneOfTwo(ONE, TWO), FakeAuthority(ONE, TWO)
    async with AuthEngine(store, authority) as engine:
        authority.hold()
        refresh = asyncio.ensure_future(engine.refresh())
        await authority.asked()
        store.selected = 1
        await engine.follow()
        assert engine.session.credentials is ONE
        authority.release()
        await refresh
        stored = store.stores[0].credentials
        assert isinstance(stored, ChatgptTokens) and stored.refresh_token != ONE.refresh_token
        assert (await engine.follow()).credentials is TWO
        assert store.stores[1].credentials is TWO
    assert authority.sent == [ONE.refresh_token.reveal()]


async def test_a_refresh_during_the_look_at_the_other_account_meets_its_own_store() -> None:
    """A keyring may take its time. Nothing of one account meets the store of the other meanwhile."""
    store, authority = OneOfTwo(ONE, TWO), FakeAuthority(ONE, TWO)
    async with AuthEngine(store, authority) as engine:
        store.selected, store.stores[1].gate = 1, asyncio.Event()
        follow = asyncio.ensure_future(engine.follow())
        await asyncio.sleep(0)
        await engine.refresh()
        assert engine.session.account == ONE.account and engine.session.state is AuthState.CHATGPT
        store.stores[1].gate.set()
        await follow
        assert engine.session.account == ONE.account, "the session changed meanwhile, so the look does not count"
        assert (await engine.follow()).credentials is TWO
    assert authority.sent == [ONE.refresh_token.reveal()]


async def test_an_account_that_cannot_be_read_is_not_used_before_it_can_be() -> None:
    store = OneOfTwo(ONE, TWO)
    store.stores[1].fault = StoreUnavailable("the keyring is locked")
    async with AuthEngine(store, FakeAuthority(ONE)) as engine:
        events = events_of(engine)
        store.selected = 1
        for _ in range(40):
            assert (await engine.follow()).credentials is ONE
        warned = [event.message for event in events if isinstance(event, Warned)]
        assert warned == ["the account that is selected now is not used yet: the keyring is locked"]
        await engine.refresh()
        assert engine.session.account == ONE.account
        store.stores[1].fault = None
        for _ in range(64):
            await engine.follow()
        assert engine.session.credentials is TWO


async def test_a_login_that_is_open_was_meant_for_the_account_before() -> None:
    store, authority = OneOfTwo(ONE, TWO), FakeAuthority()
    new = make_tokens(account_id="org-3")
    async with AuthEngine(store, authority) as engine:
        attempt = await engine.begin_login("id", LoginFlow.BROWSER)
        store.selected = 1
        await engine.follow()
        assert attempt.state == "superseded" and "another account was selected" in (attempt.message or "")
        with pytest.raises(LoginAttemptEnded):
            await engine.complete_login(attempt, new)
        assert [part.credentials for part in store.stores] == [ONE, TWO]
    assert authority.revoked == []


async def test_who_is_signed_out_starts_with_the_selected_account() -> None:
    store = OneOfTwo(None, TWO)
    async with AuthEngine(store, FakeAuthority()) as engine:
        store.selected = 1
        assert (await engine.restore()).credentials is TWO
        assert store.used is store.stores[1]


async def test_pending_tokens_are_stored_in_their_own_account_first() -> None:
    store, authority = OneOfTwo(ONE, TWO), FakeAuthority(ONE, TWO)
    async with AuthEngine(store, authority, settings=RefreshSettings(save_waits=(0.0,))) as engine:
        store.stores[0].is_full = True
        with pytest.raises(StoreUnavailable):
            await engine.refresh()
        store.selected = 1
        assert (await engine.follow()).credentials is ONE
        store.stores[0].is_full = False
        await engine.refresh()
        assert store.stores[0].credentials is not ONE
        assert (await engine.follow()).credentials is TWO
    assert authority.sent == [ONE.refresh_token.reveal()]
