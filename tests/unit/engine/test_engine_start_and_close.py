"""The beginning and the end of an engine: what is restored, what is refused, what the end waits for."""

import asyncio

import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import (
    EngineClosed,
    IssuerUnavailable,
    NotSignedIn,
    RefreshDeadReason,
    RefreshInterrupted,
    StoreUnreadable,
)
from authstate.engine.model.events import AuthMode, Event, StateChanged, Warned
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.states import AuthState, Trigger
from authstate.testing import (
    NEVER,
    FakeAuthority,
    FakeParent,
    ManualClock,
    MemoryStore,
    make_external_tokens,
    make_tokens,
)


def heard(engine: AuthEngine) -> list[Event]:
    events: list[Event] = []
    engine.subscribe(events.append)
    return events


@pytest.mark.parametrize(
    ("stored", "state", "mode"),
    [
        (None, "logged_out", None),
        (ApiKey.parse("sk-1"), "api_key", "apikey"),
        (make_tokens(), "chatgpt", "chatgpt"),
    ],
)
async def test_what_is_stored_is_restored(stored: Credentials | None, state: str, mode: str | None) -> None:
    store, authority = MemoryStore(stored), FakeAuthority()
    async with AuthEngine(store, authority) as engine:
        assert engine.session.state == state
        assert engine.session.credentials is stored
        assert engine.auth_mode == mode
        assert engine.session.account == (stored.account if isinstance(stored, ChatgptTokens) else None)
        assert engine.policy == Policy()
        assert engine.store_fault is None
    assert authority.sent == []
    assert (store.saves, store.deletes) == (0, 0)


async def test_the_key_of_the_process_wins_and_is_not_stored() -> None:
    store = MemoryStore(make_tokens())
    engine = AuthEngine(store, FakeAuthority(), api_key=ApiKey.parse("sk-env"))
    assert (await engine.start()).state is AuthState.API_KEY
    assert (await engine.authorization()).token.reveal() == "sk-env"
    assert (store.loads, store.saves) == (0, 0)


@pytest.mark.parametrize(
    ("stored", "policy", "says"),
    [
        (ApiKey.parse("sk-1"), Policy(forced_login_method=LoginMethod.CHATGPT), "only a ChatGPT account"),
        (make_tokens(), Policy(forced_login_method=LoginMethod.API), "only an API key"),
        (make_tokens(), Policy(forced_workspaces=("org-8", "org-9")), "org-8, org-9"),
        (make_tokens(account_id=None), Policy(forced_workspaces=("org-8",)), "no workspace"),
    ],
)
async def test_what_the_policy_forbids_is_not_used_and_not_deleted(
    stored: Credentials, policy: Policy, says: str
) -> None:
    store = MemoryStore(stored)
    engine = AuthEngine(store, FakeAuthority(), policy=policy)
    events = heard(engine)
    session = await engine.start()
    assert session.state is AuthState.LOGGED_OUT
    assert session.failure is not None
    assert says in session.failure.message
    assert session.failure.reason is None
    assert [event.trigger for event in events if isinstance(event, StateChanged)] == [Trigger.CREDENTIALS_REFUSED]
    assert store.credentials is stored
    with pytest.raises(NotSignedIn) as refusal:
        await engine.authorization()
    assert str(refusal.value) == session.failure.message


async def test_a_policy_that_permits_lets_it_through() -> None:
    policy = Policy(forced_login_method=LoginMethod.CHATGPT, forced_workspaces=("org-0", "org-1"))
    engine = AuthEngine(MemoryStore(make_tokens()), FakeAuthority(), policy=policy)
    assert (await engine.start()).state is AuthState.CHATGPT


async def test_a_corrupt_store_counts_as_not_signed_in_and_is_left_alone() -> None:
    store = MemoryStore(make_tokens())

    async def corrupt() -> None:
        raise StoreUnreadable("auth.json is no JSON")

    load, store.load = store.load, corrupt
    engine = AuthEngine(store, FakeAuthority())
    events = heard(engine)
    session = await engine.start()
    assert (session.state, session.generation) == (AuthState.LOGGED_OUT, 0)
    assert isinstance(engine.store_fault, StoreUnreadable)
    assert events == [Warned("store_unreadable", "auth.json is no JSON")]
    assert (store.saves, store.deletes) == (0, 0)
    store.load = load
    await engine.use_api_key(ApiKey.parse("sk-1"))
    assert engine.store_fault is None


async def test_dead_on_arrival() -> None:
    clock = ManualClock()
    tokens = make_tokens(expires_in=-1, now=clock.now())
    authority = FakeAuthority(tokens, clock=clock)
    authority.kill(RefreshDeadReason.REVOKED)
    async with AuthEngine(MemoryStore(tokens), authority, clock=clock) as engine:
        session = await engine.check()
        assert session.state is AuthState.REFRESH_DEAD
        assert session.failure is not None
        assert (session.failure.reason, session.failure.on_arrival) == (RefreshDeadReason.REVOKED, True)
        assert "Sign in again" in session.failure.message
        assert engine.auth_mode is AuthMode.CHATGPT
        assert session.account == tokens.account


async def test_after_the_end_nothing_goes() -> None:
    engine = AuthEngine(MemoryStore(make_tokens()), FakeAuthority())
    async with engine:
        pass
    with pytest.raises(EngineClosed, match="make a new one"):
        await engine.authorization()
    for call in (engine.refresh, engine.check, engine.log_out):
        with pytest.raises(EngineClosed):
            await call()
    with pytest.raises(EngineClosed):
        await engine.use_api_key(ApiKey.parse("sk-1"))
    with pytest.raises(EngineClosed):
        await engine.complete_chatgpt_login(make_tokens())
    with pytest.raises(EngineClosed):
        await engine.use_external_tokens(make_external_tokens())
    await engine.close()


async def flying() -> tuple[AuthEngine, FakeAuthority, MemoryStore, "asyncio.Task[object]"]:
    """An engine whose refresh token is being spent."""
    tokens = make_tokens(expires_in=-1)
    authority, store = FakeAuthority(tokens), MemoryStore(tokens)
    engine = AuthEngine(store, authority)
    await engine.start()
    authority.hold()
    caller = asyncio.create_task(engine.authorization())
    await authority.asked()
    return engine, authority, store, caller


async def test_the_end_waits_for_a_token_that_is_being_spent() -> None:
    engine, authority, store, caller = await flying()
    end = asyncio.create_task(engine.close())
    for _ in range(50):
        await asyncio.sleep(0)
    assert not end.done()
    authority.release()
    await end
    assert store.saves == 1
    assert engine.session.generation == 2
    with pytest.raises(EngineClosed):
        await caller


async def test_the_end_is_bounded() -> None:
    engine, authority, store, caller = await flying()
    events = heard(engine)
    await engine.close(grace=0.01)
    assert [event.code for event in events if isinstance(event, Warned)] == ["refresh_abandoned"]
    authority.release()
    with pytest.raises(EngineClosed):
        await caller
    assert store.saves == 1


async def test_a_cancelled_end_does_not_cancel_what_is_spent() -> None:
    engine, authority, store, _ = await flying()
    end = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    end.cancel()
    authority.release()
    await asyncio.wait((end,))
    await engine.close()
    assert store.saves == 1


async def test_the_end_drops_a_refresh_that_waits_between_two_tries() -> None:
    clock = ManualClock()
    tokens = make_tokens(expires_in=-1, now=clock.now())
    authority, store = FakeAuthority(tokens, clock=clock), MemoryStore(tokens)
    authority.fail_next(IssuerUnavailable("down"), times=9)
    engine = AuthEngine(store, authority, clock=clock)
    await engine.start()
    caller = asyncio.create_task(engine.authorization())
    await clock.until_asleep()
    await engine.close()
    with pytest.raises(RefreshInterrupted):
        await caller
    assert len(authority.sent) == 1
    assert clock.sleepers == 0


async def test_the_end_ends_a_recovery_and_a_question_to_the_parent() -> None:
    parent = FakeParent(NEVER)
    engine = AuthEngine(MemoryStore(), FakeAuthority(), parent=parent, clock=ManualClock())
    await engine.start()
    await engine.use_external_tokens(make_external_tokens())
    recovery = asyncio.create_task(engine.recover(await engine.authorization()))
    await parent.was_asked.wait()
    await engine.close()
    with pytest.raises(RefreshInterrupted):
        await recovery
    await asyncio.sleep(0)
    assert parent.cancelled == 1


async def test_the_end_gives_a_revocation_a_moment_and_no_more() -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    settings = RefreshSettings(revoke_grace=0.01)
    engine = AuthEngine(MemoryStore(tokens), authority, settings=settings)
    events: list[Event] = []
    engine.subscribe(events.append)
    await engine.start()
    authority.hold()
    await engine.log_out()
    await engine.close()
    assert authority.revoked == [tokens.refresh_token.reveal()]
    authority.release()
    for _ in range(5):
        await asyncio.sleep(0)
    assert authority.live  # the issuer never got to it: the task was cancelled
    assert not engine._flows.revocations._tasks
    [warning] = [event for event in events if isinstance(event, Warned)]
    assert warning.code == "not_revoked" and "no answer within 0.01 seconds" in warning.message


async def test_after_the_close_no_refresh_begins_for_a_caller_that_waited_for_something_else() -> None:
    """The program may end before the answer comes, and the refresh token would be lost."""
    tokens = make_tokens(expires_in=-10.0)
    authority = FakeAuthority(tokens)
    engine = AuthEngine(MemoryStore(tokens), authority)
    await engine.start()
    await engine.close()
    error = await engine._flows.scheduler.start_or_join()
    assert isinstance(error, EngineClosed)
    assert authority.sent == []
