"""A login that another process stored is found while nobody is signed in, and never in the place of one that is."""

import asyncio

import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import EngineClosed, PermanentRefreshError, RefreshDeadReason, StoreUnreadable
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.states import AuthState
from authstate.testing import FakeAuthority, MemoryStore, make_external_tokens, make_tokens


@pytest.mark.parametrize(("stored", "state"), [(make_tokens(), "chatgpt"), (ApiKey.parse("sk-1"), "api_key")])
async def test_a_login_that_came_later_is_found(stored: object, state: str) -> None:
    store = MemoryStore()
    async with AuthEngine(store, FakeAuthority()) as engine:
        assert (await engine.restore()).state is AuthState.LOGGED_OUT
        store.credentials = stored  # type: ignore[assignment]
        session = await engine.restore()
        assert (session.state, session.credentials) == (state, stored)
        assert session.generation == 1


async def test_nobody_who_is_signed_in_is_replaced() -> None:
    store = MemoryStore(make_tokens())
    async with AuthEngine(store, FakeAuthority()) as engine:
        before = engine.session
        store.credentials = make_tokens(account_id="org-2")
        assert await engine.restore() is before
        await engine.use_external_tokens(make_external_tokens())
        assert (await engine.restore()).state is AuthState.EXTERNAL_TOKENS


async def test_who_signed_out_stays_so() -> None:
    async with AuthEngine(MemoryStore(make_tokens()), FakeAuthority()) as engine:
        await engine.log_out()
        assert (await engine.restore()).state is AuthState.LOGGED_OUT


async def test_what_a_policy_forbids_is_refused_once() -> None:
    store = MemoryStore(make_tokens(account_id="org-2"))
    policy = Policy(forced_login_method=LoginMethod.CHATGPT, forced_workspaces=("org-1",))
    async with AuthEngine(store, FakeAuthority(), policy=policy) as engine:
        refused = engine.session
        assert refused.failure is not None
        assert await engine.restore() is refused
        store.credentials = ApiKey.parse("sk-1")
        again = await engine.restore()
        assert again.failure not in (None, refused.failure)
        store.credentials = make_tokens(account_id="org-1")
        assert (await engine.restore()).state is AuthState.CHATGPT


async def test_what_cannot_be_read_counts_as_nothing_until_it_can() -> None:
    store = MemoryStore()

    async def corrupt() -> None:
        raise StoreUnreadable("auth.json is no JSON")

    load, store.load = store.load, corrupt
    async with AuthEngine(store, FakeAuthority()) as engine:
        assert (await engine.restore()).state is AuthState.LOGGED_OUT
        assert engine.store_fault is not None
        store.load = load
        assert (await engine.restore()).state is AuthState.LOGGED_OUT
        assert engine.store_fault is None, "nothing is stored, and that could be read"
        store.credentials = make_tokens()
        assert (await engine.restore()).state is AuthState.CHATGPT


async def test_it_keeps_out_of_the_way_of_a_login() -> None:
    store = MemoryStore()
    async with AuthEngine(store, FakeAuthority()) as engine, store.locked():
        login = asyncio.ensure_future(engine.use_api_key(ApiKey.parse("sk-1")))
        await asyncio.sleep(0)
        store.credentials = make_tokens()
        assert (await engine.restore()).state is AuthState.LOGGED_OUT
        login.cancel()


class SlowOnce(MemoryStore):
    """A store whose next look ends when the test says so; what it found is from its beginning."""

    found: asyncio.Event | None = None

    async def load(self) -> Credentials | None:
        stored, found, self.found = await super().load(), self.found, None
        if found is not None:
            await found.wait()
        return stored


async def test_a_login_waits_for_a_look_that_is_under_way() -> None:
    """What the look found late must not take the place of the login."""
    async with AuthEngine(store := SlowOnce(), FakeAuthority()) as engine:
        store.credentials, store.found = make_tokens(), (found := asyncio.Event())
        look = asyncio.ensure_future(engine.restore())
        await asyncio.sleep(0)
        login = asyncio.ensure_future(engine.use_api_key(key := ApiKey.parse("sk-1")))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not login.done()
        found.set()
        await asyncio.gather(look, login)
        assert engine.session.credentials == store.credentials == key


async def test_a_closed_engine_looks_no_more() -> None:
    engine = AuthEngine(MemoryStore(), FakeAuthority())
    await engine.close()
    with pytest.raises(EngineClosed):
        await engine.restore()


@pytest.mark.parametrize("way_back", ["policy", "backup"])
async def test_a_dead_refresh_token_that_comes_back_is_not_sent_again(way_back: str) -> None:
    tokens = make_tokens(expires_in=-60.0)
    store, authority = MemoryStore(tokens), FakeAuthority(tokens)
    authority.kill(RefreshDeadReason.REVOKED)
    async with AuthEngine(store, authority) as engine:
        with pytest.raises(PermanentRefreshError):
            await engine.refresh()
        if way_back == "policy":
            engine.set_policy(Policy(forced_login_method=LoginMethod.API))
            engine.set_policy(Policy())
            await engine.restore()
        else:
            store.credentials = authority.issue()
            assert await engine.reload()
            store.credentials = tokens
            assert await engine.reload()
        assert engine.session.state is AuthState.CHATGPT
        with pytest.raises(PermanentRefreshError) as again:
            await engine.refresh()
        assert again.value.reason is RefreshDeadReason.REVOKED
        assert engine.session.state is AuthState.REFRESH_DEAD
    assert authority.sent == [tokens.refresh_token.reveal()]


@pytest.mark.parametrize("looks", [False, True], ids=["at the refresh", "before"])
async def test_a_backup_that_is_restored_is_older_than_what_the_process_has(looks: bool) -> None:
    backup = make_tokens(expires_in=-60.0)
    store, authority = MemoryStore(backup), FakeAuthority(backup)
    async with AuthEngine(store, authority) as engine:
        newest = (await engine.refresh()).credentials
        assert isinstance(newest, ChatgptTokens)
        store.credentials = backup
        if looks:
            assert not await engine.reload()
            assert engine.session.credentials is newest
        await engine.refresh()
        assert engine.session.state is AuthState.CHATGPT
        assert store.credentials is engine.session.credentials
    assert authority.sent == [tokens.refresh_token.reveal() for tokens in (backup, newest)]


async def test_who_signed_out_and_restores_a_backup_has_to_sign_in() -> None:
    """The issuer would refuse it, and may end the whole login when a token comes twice."""
    backup = make_tokens(expires_in=-60.0)
    store, authority = MemoryStore(backup), FakeAuthority(backup)
    async with AuthEngine(store, authority) as engine:
        await engine.refresh()
        await engine.log_out()
        store.credentials = backup
        await engine.restore()
        with pytest.raises(PermanentRefreshError) as dead:
            await engine.refresh()
        assert dead.value.reason is RefreshDeadReason.EXHAUSTED
        assert store.credentials is backup
    assert authority.sent == [backup.refresh_token.reveal()]


async def test_a_backup_does_not_stand_for_tokens_that_arrive_late() -> None:
    backup = make_tokens(expires_in=-60.0)
    store, authority = MemoryStore(backup), FakeAuthority(backup)
    async with AuthEngine(store, authority, settings=RefreshSettings(rechecks=(0.0,))) as engine:
        newest = (await engine.refresh()).credentials
        store.credentials = backup
        authority.kill(RefreshDeadReason.EXHAUSTED)
        with pytest.raises(PermanentRefreshError):
            await engine.refresh()
        assert engine.session.credentials is newest
    assert len(authority.sent) == 2
