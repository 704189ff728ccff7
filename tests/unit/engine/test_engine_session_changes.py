"""Signing in and out: what is stored, what is removed, what is revoked, also while a refresh is under way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.machines.refresh_claim import RefreshClaim
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
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_external_tokens, make_tokens


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

    async def record(self, claim: RefreshClaim) -> None:
        await self.held.record(claim)

    def _writable(self) -> None:
        if self.store.read_only:
            raise StoreUnavailable("the home is read-only")


class World:
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
    async def open(cls, expires_in: float = 3600.0) -> "World":
        world = cls(expires_in)
        await world.engine.start()
        world.events.clear()
        return world

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
    async def with_pending_tokens(cls) -> "World":
        """A world that has just refreshed, and whose store did not take the new tokens: it is read-only still."""
        world = await cls.open(expires_in=-1)
        world.engine._flows.scheduler._pending._save_waits = (0.0,)
        world.store.read_only = True
        with pytest.raises(StoreUnavailable):
            await world.engine.authorization()
        return world


async def test_an_api_key_is_stored_and_told() -> None:
    world = World()
    world.store.credentials = None
    await world.engine.start()
    key = ApiKey.parse("sk-1")
    await world.engine.use_api_key(key)
    assert world.engine.session.credentials is key
    assert world.store.credentials is key
    assert world.told() == ["state", "login", "account"]
    assert world.events[1:] == [LoginCompleted(None, success=True), AccountUpdated(AuthMode.API_KEY, None)]


async def test_a_login_is_stored_and_what_it_replaces_is_revoked() -> None:
    world = await World.open()
    new = world.authority.accept(make_tokens(account_id="org-2", plan="pro"))
    await world.engine.complete_chatgpt_login(new)
    assert world.store.credentials is new
    updated = AccountUpdated(AuthMode.CHATGPT, new.account.plan_type)
    assert world.events[1:] == [LoginCompleted(None, success=True), updated]
    await world.engine.close()
    assert world.authority.revoked == [world.tokens.refresh_token.reveal()]
    assert world.authority.live == {new.refresh_token.reveal()}


async def test_a_login_with_the_stored_tokens_does_not_revoke_them() -> None:
    world = await World.open()
    await world.engine.complete_chatgpt_login(world.tokens)
    await world.engine.close()
    assert world.authority.revoked == []


@pytest.mark.parametrize(
    ("policy", "credentials", "error"),
    [
        (Policy(LoginMethod.CHATGPT), ApiKey.parse("sk-1"), LoginMethodForbidden),
        (Policy(LoginMethod.API), make_tokens(), LoginMethodForbidden),
        (Policy(None, ("org-9",)), make_tokens(), WorkspaceForbidden),
    ],
)
async def test_a_forbidden_login_stores_nothing(policy: Policy, credentials: Credentials, error: type) -> None:
    world = World()
    world.store.credentials = None
    world.engine.set_policy(policy)
    await world.engine.start()
    with pytest.raises(error):
        if isinstance(credentials, ApiKey):
            await world.engine.use_api_key(credentials)
        else:
            assert isinstance(credentials, ChatgptTokens)
            await world.engine.complete_chatgpt_login(credentials)
    assert (world.store.saves, world.events, world.engine.session.generation) == (0, [], 0)


async def test_while_a_parent_owns_the_tokens_logins_are_refused_before_anything_happens() -> None:
    world = await World.open()
    await world.engine.use_external_tokens(make_external_tokens())
    before, world.events[:] = world.engine.session, []
    with pytest.raises(ExternalTokensActive, match="log out first"):
        await world.engine.use_api_key(ApiKey.parse("sk-1"))
    with pytest.raises(ExternalTokensActive):
        await world.engine.complete_chatgpt_login(make_tokens())
    assert world.engine.session is before
    assert (world.store.saves, world.events) == (0, [])
    assert world.store.credentials is world.tokens


async def test_a_logout_removes_and_revokes_what_is_stored() -> None:
    world = await World.open()
    await world.engine.log_out()
    assert world.store.credentials is None
    assert world.engine.session.state is AuthState.LOGGED_OUT
    assert world.told() == ["state", "account"]
    assert world.events[-1] == AccountUpdated(None, None)
    await world.engine.close()
    assert world.authority.revoked == [world.tokens.refresh_token.reveal()]


async def test_a_logout_waits_for_the_lock_of_the_store() -> None:
    """Another process may be storing a login there at the moment."""
    world = await World.open()
    async with world.store.locked():
        logout = asyncio.create_task(world.engine.log_out())
        await world.clock.settle()
        assert not logout.done()
        assert (world.store.deletes, world.engine.session.state) == (0, AuthState.CHATGPT)
        world.store.credentials = newer = world.authority.accept(make_tokens(account_id="org-1"))
    await logout
    await world.engine.close()
    assert world.store.credentials is None
    assert world.authority.revoked == [newer.refresh_token.reveal()]


async def test_a_logout_and_a_look_into_the_store_take_turns() -> None:
    world = await World.open()
    async with world.engine._flows.scheduler._locks.store:
        logout = asyncio.create_task(world.engine.log_out())
        await world.clock.settle()
        assert not logout.done() and world.store.deletes == 0
    await logout
    assert world.store.deletes == 1


@pytest.mark.parametrize("first", ["login", "logout"])
async def test_a_login_and_a_logout_take_turns(first: str) -> None:
    world = await World.open()
    acts = {
        "login": lambda: world.engine.complete_chatgpt_login(world.authority.accept(make_tokens(account_id="org-2"))),
        "logout": world.engine.log_out,
    }
    async with world.store.locked():
        one = asyncio.create_task(acts.pop(first)())
        await world.clock.settle()
        [act] = acts.values()
        other = asyncio.create_task(act())
        await world.clock.settle()
        assert world.engine._flows.scheduler._locks.session.locked() and not (one.done() or other.done())
    await asyncio.gather(one, other)
    is_in = first == "logout"
    assert world.engine.session.state is (AuthState.CHATGPT if is_in else AuthState.LOGGED_OUT)
    assert (world.store.credentials is not None) is is_in
    await world.engine.close()
    assert len(world.authority.revoked) == (1 if is_in else 2)


async def test_tokens_that_a_parent_passes_in_during_a_logout_come_after_it() -> None:
    world = await World.open()
    async with world.store.locked():
        logout = asyncio.create_task(world.engine.log_out())
        await world.clock.settle()
        parent = asyncio.create_task(world.engine.use_external_tokens(make_external_tokens()))
        await world.clock.settle()
        assert not parent.done()
    await asyncio.gather(logout, parent)
    assert world.engine.session.state is AuthState.EXTERNAL_TOKENS
    assert world.store.credentials is None


async def test_a_logout_revokes_the_stored_token_and_not_the_remembered_one() -> None:
    world = await World.open()
    world.store.credentials = newer = world.authority.accept(make_tokens())
    await world.engine.log_out()
    await world.engine.close()
    assert world.authority.revoked == [newer.refresh_token.reveal()]


async def test_a_logout_with_nothing_or_a_key_or_something_unreadable_stored_revokes_nothing() -> None:
    for stored in (None, ApiKey.parse("sk-1")):
        world = World()
        world.store.credentials = stored
        await world.engine.start()
        await world.engine.log_out()
        await world.engine.close()
        assert world.authority.revoked == []
        assert world.store.credentials is None
    world = await World.open()

    async def corrupt() -> None:
        raise StoreUnreadable("no JSON")

    world.store.load = corrupt
    await world.engine.log_out()
    assert world.store.deletes == 1
    assert not world.engine._flows.revocations._tasks
    assert world.told() == ["warned", "state", "account"]
    assert world.events[0] == Warned("not_revoked", "what was stored could not be read, so it was not revoked: no JSON")


async def test_a_revocation_that_fails_is_a_warning() -> None:
    world = await World.open()
    world.authority.fail_revoke(IssuerUnavailable("503"))
    await world.engine.log_out()
    await world.clock.settle()
    assert world.events[-1] == Warned(
        "not_revoked", "the old refresh token could not be revoked, and a copy of it may still work: 503"
    )
    assert world.engine.session.state is AuthState.LOGGED_OUT


@pytest.mark.parametrize("act", ["key", "login", "logout"])
async def test_when_the_store_refuses_the_old_login_still_works(act: str) -> None:
    world = await World.open()
    world.store.read_only = True
    before = world.engine.session
    with pytest.raises(StoreUnavailable, match="read-only"):
        if act == "key":
            await world.engine.use_api_key(ApiKey.parse("sk-1"))
        elif act == "login":
            await world.engine.complete_chatgpt_login(make_tokens())
        else:
            await world.engine.log_out()
    assert world.engine.session is before
    assert world.store.credentials is world.tokens
    assert world.events == []
    await world.engine.close()
    assert world.authority.revoked == []


async def test_a_logout_waits_for_a_token_that_is_being_spent_and_revokes_what_it_brought() -> None:
    world = await World.open(expires_in=-1)
    caller = await world.spending()
    logout = asyncio.create_task(world.engine.log_out())
    await world.clock.settle()
    assert not logout.done()
    world.authority.release()
    await logout
    await asyncio.wait((caller,))
    await world.engine.close()
    brought = world.authority.grants[0].refresh_token
    assert brought is not None
    assert world.authority.revoked == [brought.reveal()]
    assert world.authority.live == set()
    assert world.store.credentials is None
    assert world.engine.session.state is AuthState.LOGGED_OUT
    triggers = [event.trigger for event in world.events if isinstance(event, StateChanged)]
    assert triggers == [Trigger.TOKENS_REFRESHED, Trigger.LOG_OUT]


async def test_a_login_waits_for_a_token_that_is_being_spent_and_replaces_what_it_brought() -> None:
    world = await World.open(expires_in=-1)
    caller = await world.spending()
    new = make_tokens(account_id="org-2")
    login = asyncio.create_task(world.engine.complete_chatgpt_login(new))
    await world.clock.settle()
    assert not login.done()
    world.authority.release()
    await login
    await asyncio.wait((caller,))
    await world.engine.close()
    assert world.store.credentials is world.engine.session.credentials is new
    assert len(world.authority.revoked) == 1
    assert world.authority.live == set()


async def test_a_logout_drops_a_refresh_that_waits_between_two_tries() -> None:
    world = await World.open(expires_in=-1)
    world.authority.fail_next(IssuerUnavailable("503"), times=9)
    caller = asyncio.create_task(world.engine.authorization())
    await world.clock.until_asleep()
    await world.engine.log_out()
    with pytest.raises(RefreshInterrupted):
        await caller
    assert len(world.authority.sent) == 1
    assert world.store.credentials is None


async def test_a_refresh_that_starts_after_a_logout_sends_nothing() -> None:
    world = await World.open(expires_in=-1)
    await world.engine._flows.scheduler._locks.store.acquire()
    task = world.engine._flows.scheduler.start_or_join()
    await world.clock.settle()
    world.engine.set_policy(Policy(LoginMethod.API))
    world.engine._flows.scheduler._locks.store.release()
    assert await task is None
    assert world.authority.sent == []


async def test_new_tokens_that_were_never_stored_are_revoked_by_a_logout() -> None:
    world = await World.with_pending_tokens()
    world.store.read_only = False
    await world.engine.log_out()
    await world.engine.close()
    brought = world.authority.grants[0].refresh_token
    assert brought is not None
    assert world.authority.revoked == [brought.reveal()]
    assert world.store.credentials is None


async def test_new_tokens_that_were_never_stored_are_stored_at_the_end() -> None:
    world = await World.with_pending_tokens()
    assert world.engine.session.credentials is world.tokens
    world.store.read_only = False
    await world.engine.close()
    assert isinstance(world.store.credentials, ChatgptTokens)
    assert world.store.credentials.refresh_token == world.authority.grants[0].refresh_token
    assert len(world.authority.sent) == 1


async def test_pending_tokens_do_not_overwrite_newer_ones_that_a_look_adopted() -> None:
    world = await World.with_pending_tokens()
    world.store.read_only = False
    world.store.credentials = newer = world.authority.accept(make_tokens(now=world.clock.now()))
    assert await world.engine.reload()
    await world.engine.refresh()
    assert world.authority.sent == [world.tokens.refresh_token.reveal(), newer.refresh_token.reveal()]


async def test_pending_tokens_are_revoked_when_nothing_is_stored_any_more() -> None:
    world = await World.with_pending_tokens()
    world.store.credentials = None
    await world.engine.use_external_tokens(make_external_tokens())
    await world.engine.log_out()
    await world.engine.close()
    newest = world.authority.grants[0].refresh_token
    assert newest is not None
    assert world.authority.revoked == [newest.reveal()]


async def test_a_new_policy_ends_what_it_forbids_at_once() -> None:
    world = await World.open()
    world.engine.set_policy(Policy(None, ("org-1",)))
    assert world.engine.session.state is AuthState.CHATGPT
    world.engine.set_policy(Policy(LoginMethod.API))
    assert world.engine.session.state is AuthState.LOGGED_OUT
    assert world.engine.session.failure is not None
    assert world.store.credentials is world.tokens
    world.engine.set_policy(Policy())
    assert world.engine.session.state is AuthState.LOGGED_OUT


async def test_a_listener_that_fails_keeps_nobody_from_hearing() -> None:
    world = World()
    world.store.credentials = None
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    late: list[Event] = []

    def broken(event: Event) -> None:
        raise ValueError("broken listener")

    await world.engine.start()
    stop_broken = world.engine.subscribe(broken)
    stop_late = world.engine.subscribe(late.append)
    await world.engine.use_api_key(ApiKey.parse("sk-1"))
    assert late == world.events
    assert [str(fault["exception"]) for fault in faults] == ["broken listener"] * 3
    stop_broken()
    stop_broken()
    stop_late()
    await world.engine.log_out()
    assert len(faults) == len(late) == 3
    assert len(world.events) == 5
