"""Signing in and out: what is stored, what is removed, what is revoked, also while a refresh is in flight."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from authstate.adapters.testing import FakeAuthority, ManualClock, MemoryStore, make_external, make_tokens
from authstate.engine.engine import AuthEngine
from authstate.engine.flows.refresh import RefreshSettings
from authstate.engine.machines.claim import Claim
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import (
    ExternalTokensActive,
    IssuerUnavailable,
    LoginMethodForbidden,
    RefreshInterrupted,
    StoreUnavailable,
    StoreUnreadable,
    WorkspaceForbidden,
)
from authstate.engine.model.events import AccountUpdated, AuthMode, Event, LoginCompleted, StateChanged, Warned
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.states import AuthState, Trigger
from authstate.engine.ports import HeldStore


class SickStore(MemoryStore):
    """A store that may be read-only."""

    read_only = False

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        async with super().locked() as held:
            yield _Held(self, held)


class _Held:
    def __init__(self, store: SickStore, held: HeldStore) -> None:
        self.store, self.held = store, held

    async def load(self) -> Credentials | None:
        return await self.held.load()

    async def prepare(self) -> None:
        await self.held.prepare()

    async def save(self, credentials: Credentials) -> None:
        self._writable()
        await self.held.save(credentials)

    async def delete(self) -> None:
        self._writable()
        await self.held.delete()

    async def record(self, claim: Claim) -> None:
        await self.held.record(claim)

    def _writable(self) -> None:
        if self.store.read_only:
            raise StoreUnavailable("the home is read-only")


class House:
    """An engine with a managed login, a fake issuer and a store that may get sick."""

    def __init__(self, expires_in: float = 3600.0) -> None:
        self.clock = ManualClock()
        self.tokens = make_tokens(expires_in=expires_in, now=self.clock.now())
        self.authority = FakeAuthority(self.tokens, clock=self.clock)
        self.store = SickStore(self.tokens)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)

    @classmethod
    async def open(cls, expires_in: float = 3600.0) -> "House":
        house = cls(expires_in)
        await house.engine.start()
        house.events.clear()
        return house

    async def spending(self) -> "asyncio.Task[object]":
        """A caller whose refresh is at the issuer now."""
        self.authority.hold()
        caller: asyncio.Task[object] = asyncio.create_task(self.engine.authorization())
        await self.authority.asked()
        return caller

    def told(self) -> list[str]:
        names = {StateChanged: "state", LoginCompleted: "login", AccountUpdated: "account", Warned: "warned"}
        return [names.get(type(event), "refresh failed") for event in self.events]

    @classmethod
    async def with_unsaved_tokens(cls) -> "House":
        """A house that has just refreshed, and whose store did not take the new tokens: it is read-only still."""
        house = await cls.open(expires_in=-1)
        house.engine._scheduler.refresher._settings = RefreshSettings(save_waits=(0.0,))
        house.store.read_only = True
        with pytest.raises(StoreUnavailable):
            await house.engine.authorization()
        return house


async def test_an_api_key_is_stored_and_told() -> None:
    house = House()
    key = ApiKey.parse("sk-1")
    await house.engine.use_api_key(key)
    assert house.engine.session.credentials is key
    assert house.store.credentials is key
    assert house.told() == ["state", "login", "account"]
    assert house.events[1:] == [LoginCompleted(None, success=True), AccountUpdated(AuthMode.API_KEY, None)]


async def test_a_login_is_stored_and_what_it_replaces_is_revoked() -> None:
    house = await House.open()
    new = house.authority.accept(make_tokens(account_id="org-2", plan="pro"))
    await house.engine.complete_chatgpt_login(new)
    assert house.store.credentials is new
    updated = AccountUpdated(AuthMode.CHATGPT, new.account.plan_type)
    assert house.events[1:] == [LoginCompleted(None, success=True), updated]
    await house.engine.close()
    assert house.authority.revoked == [house.tokens.refresh_token.reveal()]
    assert house.authority.live == {new.refresh_token.reveal()}


async def test_a_login_with_the_stored_tokens_does_not_revoke_them() -> None:
    house = await House.open()
    await house.engine.complete_chatgpt_login(house.tokens)
    await house.engine.close()
    assert house.authority.revoked == []


@pytest.mark.parametrize(
    ("policy", "credentials", "error"),
    [
        (Policy(LoginMethod.CHATGPT), ApiKey.parse("sk-1"), LoginMethodForbidden),
        (Policy(LoginMethod.API), make_tokens(), LoginMethodForbidden),
        (Policy(None, ("org-9",)), make_tokens(), WorkspaceForbidden),
    ],
)
async def test_a_forbidden_login_stores_nothing(policy: Policy, credentials: Credentials, error: type) -> None:
    house = House()
    house.store.credentials = None
    house.engine.set_policy(policy)
    with pytest.raises(error):
        if isinstance(credentials, ApiKey):
            await house.engine.use_api_key(credentials)
        else:
            assert isinstance(credentials, ChatgptTokens)
            await house.engine.complete_chatgpt_login(credentials)
    assert (house.store.saves, house.events, house.engine.session.generation) == (0, [], 0)


async def test_while_a_parent_owns_the_tokens_logins_are_refused_before_anything_happens() -> None:
    house = await House.open()
    await house.engine.use_external_tokens(make_external())
    before, house.events[:] = house.engine.session, []
    with pytest.raises(ExternalTokensActive, match="log out first"):
        await house.engine.use_api_key(ApiKey.parse("sk-1"))
    with pytest.raises(ExternalTokensActive):
        await house.engine.complete_chatgpt_login(make_tokens())
    assert house.engine.session is before
    assert (house.store.saves, house.events) == (0, [])
    assert house.store.credentials is house.tokens


async def test_a_logout_removes_and_revokes_what_is_stored() -> None:
    house = await House.open()
    await house.engine.log_out()
    assert house.store.credentials is None
    assert house.engine.session.state is AuthState.LOGGED_OUT
    assert house.told() == ["state", "account"]
    assert house.events[-1] == AccountUpdated(None, None)
    await house.engine.close()
    assert house.authority.revoked == [house.tokens.refresh_token.reveal()]


async def test_a_logout_waits_for_the_lock_of_the_store() -> None:
    """Another process may be storing a login there at the moment."""
    house = await House.open()
    async with house.store.locked():
        logout = asyncio.create_task(house.engine.log_out())
        await house.clock.settle()
        assert not logout.done()
        assert (house.store.deletes, house.engine.session.state) == (0, AuthState.CHATGPT)
        house.store.credentials = newer = house.authority.accept(make_tokens(account_id="org-1"))
    await logout
    await house.engine.close()
    assert house.store.credentials is None
    assert house.authority.revoked == [newer.refresh_token.reveal()]


async def test_a_logout_and_a_look_into_the_store_take_turns() -> None:
    house = await House.open()
    async with house.engine._scheduler.storing:
        logout = asyncio.create_task(house.engine.log_out())
        await house.clock.settle()
        assert not logout.done() and house.store.deletes == 0
    await logout
    assert house.store.deletes == 1


@pytest.mark.parametrize("first", ["login", "logout"])
async def test_a_login_and_a_logout_take_turns(first: str) -> None:
    house = await House.open()
    acts = {
        "login": lambda: house.engine.complete_chatgpt_login(house.authority.accept(make_tokens(account_id="org-2"))),
        "logout": house.engine.log_out,
    }
    async with house.store.locked():
        one = asyncio.create_task(acts.pop(first)())
        await house.clock.settle()
        [act] = acts.values()
        other = asyncio.create_task(act())
        await house.clock.settle()
        assert house.engine._changes.lock.locked() and not (one.done() or other.done())
    await asyncio.gather(one, other)
    is_in = first == "logout"
    assert house.engine.session.state is (AuthState.CHATGPT if is_in else AuthState.LOGGED_OUT)
    assert (house.store.credentials is not None) is is_in
    await house.engine.close()
    assert len(house.authority.revoked) == (1 if is_in else 2)


async def test_tokens_that_a_parent_passes_in_during_a_logout_come_after_it() -> None:
    house = await House.open()
    async with house.store.locked():
        logout = asyncio.create_task(house.engine.log_out())
        await house.clock.settle()
        parent = asyncio.create_task(house.engine.use_external_tokens(make_external()))
        await house.clock.settle()
        assert not parent.done()
    await asyncio.gather(logout, parent)
    assert house.engine.session.state is AuthState.EXTERNAL_TOKENS
    assert house.store.credentials is None


async def test_a_logout_revokes_the_stored_token_and_not_the_remembered_one() -> None:
    house = await House.open()
    house.store.credentials = newer = house.authority.accept(make_tokens())
    await house.engine.log_out()
    await house.engine.close()
    assert house.authority.revoked == [newer.refresh_token.reveal()]


async def test_a_logout_with_nothing_or_a_key_or_something_unreadable_stored_revokes_nothing() -> None:
    for stored in (None, ApiKey.parse("sk-1")):
        house = House()
        house.store.credentials = stored
        await house.engine.start()
        await house.engine.log_out()
        await house.engine.close()
        assert house.authority.revoked == []
        assert house.store.credentials is None
    house = await House.open()

    async def corrupt() -> None:
        raise StoreUnreadable("no JSON")

    house.store.load = corrupt
    await house.engine.log_out()
    assert house.store.deletes == 1
    assert not house.engine._revocations._tasks
    assert house.told() == ["warned", "state", "account"]
    assert house.events[0] == Warned("not_revoked", "what was stored could not be read, so it was not revoked: no JSON")


async def test_a_revocation_that_fails_is_a_warning() -> None:
    house = await House.open()
    house.authority.fail_revoke(IssuerUnavailable("503"))
    await house.engine.log_out()
    await house.clock.settle()
    assert house.events[-1] == Warned(
        "not_revoked", "the old refresh token could not be revoked, and a copy of it may still work: 503"
    )
    assert house.engine.session.state is AuthState.LOGGED_OUT


@pytest.mark.parametrize("act", ["key", "login", "logout"])
async def test_when_the_store_refuses_the_old_login_still_works(act: str) -> None:
    house = await House.open()
    house.store.read_only = True
    before = house.engine.session
    with pytest.raises(StoreUnavailable, match="read-only"):
        if act == "key":
            await house.engine.use_api_key(ApiKey.parse("sk-1"))
        elif act == "login":
            await house.engine.complete_chatgpt_login(make_tokens())
        else:
            await house.engine.log_out()
    assert house.engine.session is before
    assert house.store.credentials is house.tokens
    assert house.events == []
    await house.engine.close()
    assert house.authority.revoked == []


async def test_a_logout_waits_for_a_token_that_is_being_spent_and_revokes_what_it_brought() -> None:
    house = await House.open(expires_in=-1)
    caller = await house.spending()
    logout = asyncio.create_task(house.engine.log_out())
    await house.clock.settle()
    assert not logout.done()
    house.authority.release()
    await logout
    await asyncio.wait((caller,))
    await house.engine.close()
    brought = house.authority.grants[0].refresh_token
    assert brought is not None
    assert house.authority.revoked == [brought.reveal()]
    assert house.authority.live == set()
    assert house.store.credentials is None
    assert house.engine.session.state is AuthState.LOGGED_OUT
    triggers = [event.trigger for event in house.events if isinstance(event, StateChanged)]
    assert triggers == [Trigger.TOKENS_REFRESHED, Trigger.LOG_OUT]


async def test_a_login_waits_for_a_token_that_is_being_spent_and_replaces_what_it_brought() -> None:
    house = await House.open(expires_in=-1)
    caller = await house.spending()
    new = make_tokens(account_id="org-2")
    login = asyncio.create_task(house.engine.complete_chatgpt_login(new))
    await house.clock.settle()
    assert not login.done()
    house.authority.release()
    await login
    await asyncio.wait((caller,))
    await house.engine.close()
    assert house.store.credentials is house.engine.session.credentials is new
    assert len(house.authority.revoked) == 1
    assert house.authority.live == set()


async def test_a_logout_drops_a_refresh_that_waits_between_two_tries() -> None:
    house = await House.open(expires_in=-1)
    house.authority.fail_next(IssuerUnavailable("503"), times=9)
    caller = asyncio.create_task(house.engine.authorization())
    await house.clock.until_asleep()
    await house.engine.log_out()
    with pytest.raises(RefreshInterrupted):
        await caller
    assert len(house.authority.sent) == 1
    assert house.store.credentials is None


async def test_a_flight_that_starts_after_a_logout_sends_nothing() -> None:
    house = await House.open(expires_in=-1)
    await house.engine._scheduler.storing.acquire()
    flight = house.engine._scheduler.start_or_join()
    await house.clock.settle()
    house.engine.set_policy(Policy(LoginMethod.API))
    house.engine._scheduler.storing.release()
    assert await flight is None
    assert house.authority.sent == []


async def test_new_tokens_that_were_never_stored_are_revoked_by_a_logout() -> None:
    house = await House.with_unsaved_tokens()
    house.store.read_only = False
    await house.engine.log_out()
    await house.engine.close()
    brought = house.authority.grants[0].refresh_token
    assert brought is not None
    assert house.authority.revoked == [brought.reveal()]
    assert house.store.credentials is None


async def test_new_tokens_that_were_never_stored_are_stored_at_the_end() -> None:
    house = await House.with_unsaved_tokens()
    assert house.engine.session.credentials is house.tokens
    house.store.read_only = False
    await house.engine.close()
    assert isinstance(house.store.credentials, ChatgptTokens)
    assert house.store.credentials.refresh_token == house.authority.grants[0].refresh_token
    assert len(house.authority.sent) == 1


async def test_unsaved_tokens_do_not_overwrite_newer_ones_that_a_look_adopted() -> None:
    house = await House.with_unsaved_tokens()
    house.store.read_only = False
    house.store.credentials = newer = house.authority.accept(make_tokens(now=house.clock.now()))
    assert await house.engine.reload()
    await house.engine.refresh()
    assert house.authority.sent == [house.tokens.refresh_token.reveal(), newer.refresh_token.reveal()]


async def test_unsaved_tokens_are_revoked_when_nothing_is_stored_any_more() -> None:
    house = await House.with_unsaved_tokens()
    house.store.credentials = None
    await house.engine.use_external_tokens(make_external())
    await house.engine.log_out()
    await house.engine.close()
    newest = house.authority.grants[0].refresh_token
    assert newest is not None
    assert house.authority.revoked == [newest.reveal()]


async def test_a_new_policy_ends_what_it_forbids_at_once() -> None:
    house = await House.open()
    house.engine.set_policy(Policy(None, ("org-1",)))
    assert house.engine.session.state is AuthState.CHATGPT
    house.engine.set_policy(Policy(LoginMethod.API))
    assert house.engine.session.state is AuthState.LOGGED_OUT
    assert house.engine.session.failure is not None
    assert house.store.credentials is house.tokens
    house.engine.set_policy(Policy())
    assert house.engine.session.state is AuthState.LOGGED_OUT


async def test_a_listener_that_fails_keeps_nobody_from_hearing() -> None:
    house = House()
    house.store.credentials = None
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    late: list[Event] = []

    def broken(event: Event) -> None:
        raise ValueError("broken listener")

    stop_broken = house.engine.subscribe(broken)
    stop_late = house.engine.subscribe(late.append)
    await house.engine.use_api_key(ApiKey.parse("sk-1"))
    assert late == house.events
    assert [str(fault["exception"]) for fault in faults] == ["broken listener"] * 3
    stop_broken()
    stop_broken()
    stop_late()
    await house.engine.log_out()
    assert len(faults) == len(late) == 3
    assert len(house.events) == 5
