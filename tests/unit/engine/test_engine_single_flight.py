"""One refresh for all: concurrent callers, refused tokens, cancellation, and what the clock decides."""

import asyncio

import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.flows.refresh_urgency import Urgency
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import (
    IssuerUnavailable,
    NotSignedIn,
    PermanentRefreshError,
    RecoveryExhausted,
    RefreshDeadReason,
    StoreUnreadable,
)
from authstate.engine.model.events import Event, RefreshFailed, Warned
from authstate.engine.model.policy import Policy
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization
from authstate.engine.model.states import AuthState
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens


class World:
    """An engine whose clock, issuer and store are under the control of the test."""

    def __init__(self, expires_in: float | None = -10.0, issues: float | None = 3600.0) -> None:
        self.clock = ManualClock()
        self.tokens = make_tokens(expires_in=expires_in, now=self.clock.now())
        self.authority = FakeAuthority(self.tokens, clock=self.clock, expires_in=issues)
        self.store = MemoryStore(self.tokens)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)

    def warnings(self) -> list[str]:
        return [event.code for event in self.events if isinstance(event, Warned)]

    def other_process_refreshes(self, expires_in: float = 3600.0, last_refresh: float | None = None) -> ChatgptTokens:
        now = self.clock.now() if last_refresh is None else last_refresh
        shift = expires_in + self.clock.now() - now
        tokens = self.authority.accept(make_tokens(expires_in=shift, now=now))
        self.store.credentials = tokens
        return tokens


async def test_a_thousand_callers_with_an_expired_token_cost_one_refresh() -> None:
    world = World()
    await world.engine.start()
    answers = await asyncio.gather(*(world.engine.authorization() for _ in range(1000)))
    assert len(world.authority.sent) == 1
    assert {answer.token.reveal() for answer in answers} == {world.authority.grants[0].access_token.reveal()}
    assert {answer.generation for answer in answers} == {2}
    assert world.store.saves == 1


async def test_a_thousand_401s_for_one_token_cost_one_refresh() -> None:
    world = World(expires_in=3600)
    await world.engine.start()
    refused = await world.engine.authorization()
    answers = await asyncio.gather(*(world.engine.recover(refused) for _ in range(1000)))
    assert len(world.authority.sent) == 1
    assert {answer.token.reveal() for answer in answers} == {world.authority.grants[0].access_token.reveal()}
    again = await world.engine.recover(refused)  # one more 401 for the old token, late
    assert again.generation == 2
    assert len(world.authority.sent) == 1


async def test_401s_during_a_background_refresh_are_answered_by_it() -> None:
    world = World(expires_in=200)
    await world.engine.start()
    world.authority.hold()
    refused = await world.engine.authorization()
    await world.authority.asked()
    recoveries = [asyncio.create_task(world.engine.recover(refused)) for _ in range(10)]
    await world.clock.settle()
    world.authority.release()
    answers = await asyncio.gather(*recoveries)
    assert {answer.generation for answer in answers} == {2}
    assert len(world.authority.sent) == 1


async def test_a_dead_refresh_token_is_sent_once_whatever_is_called_afterwards() -> None:
    world = World()
    world.authority.kill(RefreshDeadReason.EXPIRED)
    await world.engine.start()
    with pytest.raises(PermanentRefreshError, match="too old") as first:
        await world.engine.authorization()
    dead = Authorization(world.tokens.access_token, "org-1", world.engine.session.generation)
    older = Authorization(world.tokens.access_token, "org-1", 1)
    for _ in range(3):
        for call in (
            world.engine.authorization,
            world.engine.refresh,
            lambda: world.engine.recover(dead),
            lambda: world.engine.recover(older),
        ):
            with pytest.raises(PermanentRefreshError) as again:
                await call()
            assert again.value.reason is RefreshDeadReason.EXPIRED
            assert again.value is not first.value
        await world.engine.check()
        assert not await world.engine.reload()
    assert len(world.authority.sent) == 1
    assert world.store.credentials is world.tokens
    assert (world.store.saves, world.store.deletes) == (0, 0)
    assert world.engine.session.credentials is world.tokens
    assert world.engine.session.failure is not None
    assert world.engine.session.failure.on_arrival
    assert [event.permanent for event in world.events if isinstance(event, RefreshFailed)] == [True]


async def test_while_the_access_token_lasts_a_dead_login_still_works() -> None:
    world = World(expires_in=100)
    world.authority.kill()
    await world.engine.start()
    with pytest.raises(PermanentRefreshError):
        await world.engine.refresh()
    assert world.engine.session.state is AuthState.REFRESH_DEAD
    assert world.engine.session.failure is not None
    assert not world.engine.session.failure.on_arrival
    assert (await world.engine.authorization()).token == world.tokens.access_token
    world.clock.advance(100)
    with pytest.raises(PermanentRefreshError, match="revoked"):
        await world.engine.authorization()
    assert len(world.authority.sent) == 1


async def test_a_dead_login_wakes_up_when_another_process_signed_in() -> None:
    world = World()
    world.authority.kill()
    await world.engine.start()
    await world.engine.check()
    assert world.engine.session.state is AuthState.REFRESH_DEAD
    newer = world.other_process_refreshes()
    assert (await world.engine.authorization()).token == newer.access_token
    assert world.engine.session.state is AuthState.CHATGPT
    assert world.engine.session.failure is None


async def test_a_dead_login_that_finds_old_tokens_refreshes_them_before_use() -> None:
    world = World()
    world.authority.kill()
    await world.engine.start()
    await world.engine.check()
    world.other_process_refreshes(expires_in=-5, last_refresh=world.clock.now() - 4000)
    answer = await world.engine.authorization()
    assert answer.token == world.authority.grants[0].access_token
    assert len(world.authority.sent) == 2


@pytest.mark.parametrize("call", ["check", "refresh"])
async def test_check_and_refresh_wake_a_dead_login_too(call: str) -> None:
    world = World()
    world.authority.kill()
    await world.engine.start()
    await world.engine.check()
    world.other_process_refreshes()
    session = await getattr(world.engine, call)()
    assert session.state is AuthState.CHATGPT


async def test_a_dead_login_that_ends_during_the_look_is_judged_anew() -> None:
    world = World()
    world.authority.kill()
    await world.engine.start()
    await world.engine.check()
    await world.engine._flows.scheduler._locks.store.acquire()
    waiting = asyncio.create_task(world.engine.authorization())
    await world.clock.settle()
    world.engine.set_policy(Policy(forced_workspaces=("org-9",)))
    world.engine._flows.scheduler._locks.store.release()
    with pytest.raises(NotSignedIn, match="org-9"):
        await waiting


async def test_a_cancelled_caller_does_not_cancel_the_flight() -> None:
    world = World()
    await world.engine.start()
    world.authority.hold()
    first = asyncio.create_task(world.engine.authorization())
    second = asyncio.create_task(world.engine.authorization())
    await world.authority.asked()
    first.cancel()
    await world.clock.settle()
    assert first.cancelled()
    world.authority.release()
    assert (await second).generation == 2
    assert world.store.saves == 1


async def test_the_flight_ends_even_when_every_caller_was_cancelled() -> None:
    world = World()
    await world.engine.start()
    world.authority.hold()
    caller = asyncio.create_task(world.engine.authorization())
    await world.authority.asked()
    caller.cancel()
    world.authority.release()
    await world.clock.settle()
    assert world.engine.session.generation == 2
    assert world.store.saves == 1


@pytest.mark.parametrize(
    ("expires_in", "urgency"),
    [(3600, "none"), (301, "none"), (300, "soon"), (31, "soon"), (30, "now"), (0, "now"), (-1, "now")],
)
async def test_urgency_by_exp(expires_in: float, urgency: str) -> None:
    world = World(expires_in=expires_in)
    assert world.engine.urgency() is Urgency.NONE
    await world.engine.start()
    assert world.engine.urgency() == urgency


async def test_soon_refreshes_in_the_background() -> None:
    world = World(expires_in=200)
    await world.engine.start()
    world.authority.hold()
    assert (await world.engine.authorization()).token == world.tokens.access_token
    assert (await world.engine.authorization()).generation == 1
    await world.authority.asked()
    world.authority.release()
    await world.clock.settle()
    assert (await world.engine.authorization()).generation == 2
    assert len(world.authority.sent) == 1


async def test_now_blocks_until_the_new_tokens_are_stored() -> None:
    world = World(expires_in=29)
    await world.engine.start()
    world.authority.hold()
    waiting = asyncio.create_task(world.engine.authorization())
    await world.authority.asked()
    await world.clock.settle()
    assert not waiting.done()
    world.authority.release()
    assert (await waiting).generation == 2


async def test_without_exp_eight_days_after_the_last_refresh() -> None:
    world = World(expires_in=None)
    await world.engine.start()
    world.clock.advance(8 * 86_400)
    assert world.engine.urgency() is Urgency.NONE
    world.clock.advance(1)
    assert world.engine.urgency() is Urgency.NOW
    assert not world.engine.is_expired()
    assert (await world.engine.authorization()).generation == 2


async def test_without_exp_and_last_refresh_nothing_is_urgent() -> None:
    id_token = make_tokens().id_token.reveal()
    store = MemoryStore(ChatgptTokens.read(id_token=id_token, access_token="at", refresh_token="r"))
    engine = AuthEngine(store, FakeAuthority())
    await engine.start()
    assert engine.urgency() is Urgency.NONE
    assert (await engine.authorization()).headers() == {"Authorization": "Bearer at", "chatgpt-account-id": "org-1"}


async def test_a_wrong_clock_makes_no_storm_and_is_told_once() -> None:
    world = World(issues=-500)
    await world.engine.start()
    for _ in range(20):
        await world.engine.authorization()
    assert len(world.authority.sent) == 1
    assert world.warnings() == ["clock_may_be_wrong"]
    world.clock.advance(59)
    await world.engine.authorization()
    assert len(world.authority.sent) == 1
    world.clock.advance(1)
    await world.engine.authorization()
    assert len(world.authority.sent) == 2
    await world.engine.authorization()
    assert world.warnings() == ["clock_may_be_wrong"]


async def test_young_tokens_are_refreshed_when_a_caller_or_a_401_asks() -> None:
    world = World(issues=-500)
    await world.engine.start()
    refused = await world.engine.authorization()
    await world.engine.refresh()
    assert len(world.authority.sent) == 2
    assert (await world.engine.recover(refused)).generation == 3
    await world.engine.recover(await world.engine.authorization())
    assert len(world.authority.sent) == 3


async def test_tokens_of_another_process_are_adopted_without_the_network() -> None:
    world = World()
    await world.engine.start()
    newer = world.other_process_refreshes()
    assert (await world.engine.authorization()).token == newer.access_token
    assert world.authority.sent == []
    assert world.store.saves == 0


async def test_a_401_finds_tokens_of_another_process_first() -> None:
    world = World(expires_in=3600)
    await world.engine.start()
    refused = await world.engine.authorization()
    newer = world.other_process_refreshes()
    assert (await world.engine.recover(refused)).token == newer.access_token
    assert world.authority.sent == []


async def test_old_tokens_that_were_adopted_are_refreshed_by_the_next_flight() -> None:
    world = World()
    await world.engine.start()
    world.other_process_refreshes(expires_in=-1, last_refresh=world.clock.now() - 3601)
    answer = await world.engine.authorization()
    assert answer.token == world.authority.grants[0].access_token
    assert answer.generation == 3


async def test_adopting_old_tokens_again_and_again_comes_to_an_end() -> None:
    world = World()
    await world.engine.start()
    load = world.store.load

    async def always_others() -> Credentials | None:
        world.other_process_refreshes(expires_in=-1, last_refresh=world.clock.now() - 3601)
        return await load()

    world.store.load = always_others
    assert (await world.engine.authorization()).generation == 4
    assert world.authority.sent == []


async def test_once_usable_a_login_is_never_dead_on_arrival() -> None:
    world = World(expires_in=100)
    await world.engine.start()
    world.clock.advance(200)
    world.other_process_refreshes(expires_in=-1, last_refresh=world.clock.now() - 3601)
    assert await world.engine.reload()
    world.authority.kill()
    with pytest.raises(PermanentRefreshError):
        await world.engine.authorization()
    assert world.engine.session.failure is not None
    assert not world.engine.session.failure.on_arrival


async def test_a_look_into_the_store() -> None:
    world = World(expires_in=3600)
    await world.engine.start()
    assert not await world.engine.reload()
    for other in (None, ApiKey.parse("sk-1"), make_tokens(account_id="org-2")):
        world.store.credentials = other
        assert not await world.engine.reload()
    newer = world.other_process_refreshes()
    assert await world.engine.reload()
    assert world.engine.session.credentials is newer


async def test_a_look_into_a_store_that_cannot_be_read() -> None:
    world = World(expires_in=3600)
    await world.engine.start()

    async def corrupt() -> None:
        raise StoreUnreadable("auth.json is no JSON")

    world.store.load = corrupt
    assert not await world.engine.reload()
    assert world.warnings() == ["store_unreadable"]
    assert world.engine.session.generation == 1


async def test_a_look_that_finds_external_tokens_in_use_by_then_changes_nothing() -> None:
    world = World(expires_in=3600)
    await world.engine.start()
    load = world.store.load

    async def slow() -> Credentials | None:
        world.engine.set_policy(Policy(forced_workspaces=("org-9",)))
        return await load()

    world.other_process_refreshes()
    world.store.load = slow
    assert not await world.engine.reload()
    assert world.engine.session.state is AuthState.LOGGED_OUT


async def test_a_transient_failure_changes_nothing_and_a_valid_token_goes_on() -> None:
    world = World(expires_in=20)
    world.engine = AuthEngine(world.store, world.authority, clock=world.clock, settings=RefreshSettings(total=0))
    world.engine.subscribe(world.events.append)
    world.authority.fail_next(IssuerUnavailable("down"), times=2)
    await world.engine.start()
    assert (await world.engine.authorization()).token == world.tokens.access_token
    world.clock.advance(20)
    with pytest.raises(IssuerUnavailable, match="down"):
        await world.engine.authorization()
    with pytest.raises(IssuerUnavailable, match="down"):
        await world.engine.refresh()
    assert world.engine.session.generation == 1
    assert [event.permanent for event in world.events if isinstance(event, RefreshFailed)] == [False] * 2
    world.clock.advance(30)
    assert (await world.engine.authorization()).generation == 2


async def test_after_a_transient_failure_the_background_pauses() -> None:
    world = World(expires_in=200)
    world.engine = AuthEngine(world.store, world.authority, clock=world.clock, settings=RefreshSettings(total=0))
    world.authority.fail_next(IssuerUnavailable("down"), times=2)
    await world.engine.start()
    for _ in range(5):
        await world.engine.authorization()
        await world.clock.settle()
    assert len(world.authority.sent) == 1
    world.clock.advance(30)
    await world.engine.authorization()
    await world.clock.settle()
    assert len(world.authority.sent) == 2


async def test_the_first_look_waits_only_so_long() -> None:
    world = World()
    await world.engine.start()
    world.authority.hold()
    look = asyncio.create_task(world.engine.check(patience=5))
    await world.authority.asked()
    await world.clock.elapse(5)
    assert (await look).generation == 1
    world.authority.release()
    await world.clock.settle()
    assert world.engine.session.generation == 2


async def test_the_first_look_refreshes_what_is_expired_and_nothing_else() -> None:
    world = World()
    await world.engine.start()
    assert (await world.engine.check()).generation == 2
    assert (await world.engine.check()).generation == 2
    assert len(world.authority.sent) == 1


async def test_a_401_with_nobody_signed_in_or_an_api_key() -> None:
    engine = AuthEngine(MemoryStore(), FakeAuthority())
    await engine.start()
    with pytest.raises(NotSignedIn, match="sign in first"):
        await engine.authorization()
    with pytest.raises(NotSignedIn):
        await engine.recover(Authorization(Secret("x"), None, 7))
    with pytest.raises(RecoveryExhausted, match="nobody is signed in"):
        await engine.recover(Authorization(Secret("x"), None, 0))
    assert await engine.refresh() is engine.session
    await engine.use_api_key(ApiKey.parse("sk-1"))
    authorization = await engine.authorization()
    assert authorization.headers() == {"Authorization": "Bearer sk-1"}
    with pytest.raises(RecoveryExhausted, match="API key"):
        await engine.recover(authorization)
    assert not engine.is_expired()
