"""The refresh protocol: lock, look, make room, ask, store. What is retried, what is kept, what is never written."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import msgspec
import pytest

from authstate.adapters.stores.auth_json_format import decode, encode
from authstate.engine.flows.pending_tokens import PendingTokens, RefreshResult
from authstate.engine.flows.refresh import Refresher
from authstate.engine.flows.refresh_retries import RefreshProgress
from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import (
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    StoreBusy,
    StoreUnavailable,
    StoreUnreadable,
)
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.secret import Secret
from authstate.engine.ports import HeldStore, RefreshedTokens
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_jwt, make_tokens


class FaultyStore(MemoryStore):
    """A store whose next saves, or whose room or lock, fail as often as the test says."""

    failing_saves = 0
    no_room = False
    busy = False
    no_claims = False
    log: list[str]

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        self.log = []
        if self.busy:
            raise StoreBusy("process 7 holds the lock")
        async with super().locked() as held:
            self.log.append("locked")
            yield _Held(self, held)
        self.log.append("unlocked")


class _Held:
    def __init__(self, store: FaultyStore, held: HeldStore) -> None:
        self.store, self.held = store, held

    async def load(self) -> Credentials | None:
        self.store.log.append("load")
        return await self.held.load()

    async def prepare(self) -> None:
        self.store.log.append("prepare")
        if self.store.no_room:
            raise StoreUnavailable("the disk is full")

    async def delete(self) -> None:
        await self.held.delete()

    async def save(self, credentials: Credentials) -> None:
        self.store.log.append("save")
        if self.store.failing_saves:
            self.store.failing_saves -= 1
            raise StoreUnavailable("the disk is full")
        await self.held.save(credentials)

    async def record(self, claim: RefreshClaim) -> None:
        self.store.log.append(str(claim.state))
        if self.store.no_claims:
            raise StoreUnavailable("the disk is full")
        await self.held.record(claim)


class Protocol:
    """A refresher and what is around it."""

    def __init__(self, settings: RefreshSettings | None = None) -> None:
        self.clock = ManualClock()
        self.tokens = make_tokens(expires_in=-1, now=self.clock.now())
        self.store = FaultyStore(self.tokens)
        self.authority = FakeAuthority(self.tokens, clock=self.clock)
        self.warnings: list[str] = []
        settings = settings or RefreshSettings()
        self.pending = PendingTokens(self.clock, settings.save_waits, self.warn)
        self.progress = RefreshProgress()
        self.refresher = Refresher(self.store, self.authority, self.clock, Random(1), settings, self.pending, self.warn)

    def warn(self, code: str, message: str) -> None:
        self.warnings.append(code)

    def start(self, current: ChatgptTokens | None = None) -> "asyncio.Task[RefreshResult]":
        """Start the protocol. Its access token is of no use."""
        self.progress = RefreshProgress()
        return asyncio.create_task(self.refresher.run(current or self.tokens, lambda: False, self.progress))

    async def run(self, seconds: float = 0.0, current: ChatgptTokens | None = None) -> RefreshResult:
        """Run the protocol while that many seconds pass."""
        task = self.start(current)
        await self.clock.elapse(seconds)
        return await task


async def test_the_order_of_a_refresh() -> None:
    protocol = Protocol()
    renewal = await protocol.run()
    assert protocol.store.log == ["locked", "load", "prepare", "claimed", "load", "save", "spent", "unlocked"]
    assert not renewal.was_adopted
    assert renewal.tokens is protocol.store.credentials
    granted = protocol.authority.grants[0]
    assert renewal.tokens.access_token == granted.access_token
    assert renewal.tokens.refresh_token == granted.refresh_token
    assert renewal.tokens.id_token == granted.id_token
    assert renewal.tokens.last_refresh == protocol.clock.now()
    assert renewal.tokens.expires_at == protocol.clock.now() + 3600
    assert not protocol.progress.is_uncancellable


async def test_the_time_of_a_refresh_is_one_that_every_store_can_keep() -> None:
    """Some clocks are finer than the microseconds of auth.json: then memory and store would differ after a refresh."""
    protocol = Protocol()
    protocol.clock.jump_wall(1.2345678)
    renewal = await protocol.run()
    assert renewal.tokens.last_refresh == 1_800_000_001.234568
    assert decode(encode(renewal.tokens, None), "here").credentials == renewal.tokens


async def test_it_is_critical_from_the_request_until_the_tokens_are_stored() -> None:
    protocol = Protocol()
    protocol.authority.hold()
    task = protocol.start()
    assert not protocol.progress.is_uncancellable
    await protocol.authority.asked()
    assert protocol.progress.is_uncancellable
    protocol.authority.release()
    await task
    assert not protocol.progress.is_uncancellable


async def test_between_two_tries_it_is_not_critical() -> None:
    protocol = Protocol()
    protocol.authority.fail_next(IssuerUnavailable("down"))
    task = protocol.start()
    await protocol.clock.until_asleep()
    assert not protocol.progress.is_uncancellable
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert protocol.store.credentials is protocol.tokens
    assert not (await protocol.run()).was_adopted  # the lock is free again, and the token was never spent


@pytest.mark.parametrize("stored", [None, ApiKey.parse("sk-1"), make_tokens(account_id="org-2")])
async def test_another_account_in_the_store_is_dead_and_nothing_is_sent_or_written(stored: Credentials | None) -> None:
    protocol = Protocol()
    protocol.store.credentials = stored
    with pytest.raises(PermanentRefreshError) as dead:
        await protocol.run()
    assert dead.value.reason is RefreshDeadReason.ACCOUNT_CHANGED
    assert protocol.authority.sent == []
    assert protocol.store.log == ["locked", "load"]
    assert protocol.store.credentials is stored


async def test_other_tokens_of_the_account_are_adopted_without_the_network() -> None:
    protocol = Protocol()
    protocol.store.credentials = newer = make_tokens()
    assert await protocol.run() == RefreshResult(newer, was_adopted=True)
    assert protocol.authority.sent == []
    assert "save" not in protocol.store.log


@pytest.mark.parametrize("left", [None, ApiKey.parse("sk-1"), make_tokens(account_id="org-2")])
@pytest.mark.parametrize("has_access_token", [True, False])
async def test_who_signs_out_or_in_without_the_lock_while_the_issuer_is_asked_is_not_undone(
    left: Credentials | None, has_access_token: bool
) -> None:
    protocol = Protocol()
    if not has_access_token:
        protocol.authority.answer_without_access_token_next()
    protocol.authority.hold()
    task = protocol.start()
    await protocol.authority.asked()
    protocol.store.credentials = left
    protocol.authority.release()
    with pytest.raises(PermanentRefreshError) as dead:
        await task
    assert dead.value.reason is RefreshDeadReason.ACCOUNT_CHANGED
    assert protocol.store.credentials is left
    assert (protocol.store.saves, protocol.pending.tokens, protocol.progress.is_uncancellable) == (
        0,
        None,
        False,
    )


async def test_a_store_that_cannot_be_read_after_the_answer_costs_no_token() -> None:
    protocol = Protocol()
    protocol.authority.hold()
    task = protocol.start()
    await protocol.authority.asked()

    async def corrupt() -> None:
        raise StoreUnreadable("codex is writing it")

    protocol.store.load = corrupt
    protocol.authority.release()
    assert (await task).tokens is protocol.store.credentials


@pytest.mark.parametrize("fault", ["no_room", "busy", "no_claims"])
async def test_without_room_or_lock_nothing_is_spent(fault: str) -> None:
    protocol = Protocol()
    setattr(protocol.store, fault, True)
    with pytest.raises(StoreUnavailable):
        await protocol.run()
    assert protocol.authority.sent == []


async def test_an_unreadable_store_is_transient_and_nothing_is_spent() -> None:
    protocol = Protocol()

    async def corrupt() -> None:
        raise StoreUnreadable("auth.json is no JSON")

    protocol.store.load = corrupt
    with pytest.raises(StoreUnreadable):
        await protocol.run()
    assert protocol.authority.sent == []


async def test_transient_failures_are_retried_with_growing_waits() -> None:
    protocol = Protocol()
    protocol.authority.fail_next(IssuerUnavailable("503"), times=5)
    renewal = await protocol.run(30)
    assert not renewal.was_adopted
    assert len(protocol.authority.sent) == 6
    assert len(protocol.clock.slept) == 5
    for wait, longest in zip(protocol.clock.slept, (0.5, 1, 2, 4, 8), strict=True):
        assert longest / 2 <= wait <= longest


async def test_retry_after_is_honoured() -> None:
    protocol = Protocol()
    protocol.authority.fail_next(IssuerUnavailable("429", retry_after=7.0), times=2)
    await protocol.run(14)
    assert protocol.clock.slept == [7.0, 7.0]


async def test_a_pause_that_is_none_is_no_leave_to_ask_without_one() -> None:
    protocol = Protocol()
    protocol.authority.fail_next(IssuerUnavailable("429", retry_after=0.0), times=5)
    await protocol.run(30)
    for wait, longest in zip(protocol.clock.slept, (0.5, 1, 2, 4, 8), strict=True):
        assert longest / 2 <= wait <= longest


@pytest.mark.parametrize(("retry_after", "tries"), [(31.0, 1), (10.0, 4), (0.0, 8)])
async def test_the_total_time_is_bounded(retry_after: float, tries: int) -> None:
    protocol = Protocol()
    protocol.authority.fail_next(IssuerUnavailable("429", retry_after), times=99)
    with pytest.raises(IssuerUnavailable, match="429"):
        await protocol.run(40)
    assert len(protocol.authority.sent) == tries
    assert sum(protocol.clock.slept) <= 30


async def test_a_refresh_that_was_asked_to_stop_has_no_second_try() -> None:
    protocol = Protocol()
    protocol.authority.fail_next(IssuerUnavailable("503"), times=9)
    protocol.authority.hold()
    task = protocol.start()
    await protocol.authority.asked()
    protocol.progress.stop_retrying()
    protocol.authority.release()
    with pytest.raises(IssuerUnavailable):
        await task
    assert len(protocol.authority.sent) == 1
    while len(protocol.authority._errors) > 1:
        protocol.authority._errors.pop()
    assert not (await protocol.run(10)).was_adopted  # the next refresh tries a second time
    assert len(protocol.authority.sent) == 3


@pytest.mark.parametrize("reason", ["expired", "revoked", "unknown"])
async def test_a_permanent_answer_is_never_retried(reason: str) -> None:
    protocol = Protocol()
    protocol.authority.kill(RefreshDeadReason(reason))
    with pytest.raises(PermanentRefreshError) as dead:
        await protocol.run(60)
    assert dead.value.reason == reason
    assert len(protocol.authority.sent) == 1
    assert protocol.clock.slept == []
    assert protocol.store.saves == 0


async def test_used_up_elsewhere_looks_for_tokens_that_arrive_late() -> None:
    protocol = Protocol()
    protocol.authority.kill(RefreshDeadReason.EXHAUSTED)
    task = protocol.start()
    await protocol.clock.until_asleep()
    protocol.store.credentials = late = make_tokens()
    await protocol.clock.elapse(1)
    assert (await task).tokens is late
    assert protocol.warnings == ["foreign_refresh"]
    assert len(protocol.authority.sent) == 1


@pytest.mark.parametrize("arrives", [None, ApiKey.parse("sk-1"), make_tokens(account_id="org-2")])
async def test_used_up_elsewhere_and_nothing_arrives(arrives: Credentials | None) -> None:
    protocol = Protocol()
    protocol.authority.kill(RefreshDeadReason.EXHAUSTED)
    task = protocol.start()
    await protocol.clock.until_asleep()
    protocol.store.credentials = arrives
    await protocol.clock.elapse(1)
    with pytest.raises(PermanentRefreshError) as dead:
        await task
    assert dead.value.reason is RefreshDeadReason.EXHAUSTED
    assert protocol.clock.slept == [0.0, 0.25, 0.75]
    assert len(protocol.authority.sent) == 1


async def test_new_tokens_that_cannot_be_stored_are_kept_and_stored_later_without_asking_again() -> None:
    protocol = Protocol()
    protocol.store.failing_saves = 3
    with pytest.raises(StoreUnavailable, match="full"):
        await protocol.run(1)
    assert protocol.warnings == ["tokens_not_stored"]
    assert protocol.pending.tokens is not None
    assert protocol.store.credentials is protocol.tokens
    renewal = await protocol.run()
    assert renewal.tokens is protocol.store.credentials
    assert renewal.tokens.access_token == protocol.authority.grants[0].access_token
    assert len(protocol.authority.sent) == 1
    assert protocol.pending.tokens is None


async def test_storing_is_tried_three_times() -> None:
    protocol = Protocol()
    protocol.store.failing_saves = 2
    await protocol.run(0.5)
    assert protocol.store.log.count("save") == 3
    assert protocol.clock.slept == [0.1, 0.4]
    assert protocol.warnings == []


@pytest.mark.parametrize("stored", [make_tokens(), make_tokens(account_id="org-2")])
async def test_pending_tokens_give_way_to_what_another_process_stored(stored: ChatgptTokens) -> None:
    protocol = Protocol()
    protocol.store.failing_saves = 3
    with pytest.raises(StoreUnavailable):
        await protocol.run(1)
    protocol.store.credentials = stored
    try:
        assert (await protocol.run()).tokens is stored
    except PermanentRefreshError:
        assert stored.account.account_id == "org-2"
    assert protocol.pending.tokens is None
    assert protocol.store.credentials is stored


async def test_an_answer_without_an_access_token_is_transient_and_its_refresh_token_is_stored() -> None:
    protocol = Protocol()
    protocol.authority.answer_without_access_token_next()
    with pytest.raises(IssuerUnavailable, match="without an access token") as partial:
        await protocol.run()
    assert partial.value.__cause__ is None
    stored = protocol.store.credentials
    assert isinstance(stored, ChatgptTokens)
    assert stored.refresh_token.reveal() in protocol.authority.live
    assert stored.access_token == protocol.tokens.access_token
    assert await protocol.refresher.is_outdated(protocol.tokens), "as after a restored backup"
    assert (await protocol.run()).was_adopted
    assert not (await protocol.run(current=stored)).was_adopted


async def test_an_answer_without_an_access_token_that_cannot_be_stored_is_no_news_of_an_access_token() -> None:
    protocol = Protocol()
    protocol.authority.answer_without_access_token_next()
    protocol.store.failing_saves = 3
    with pytest.raises(StoreUnavailable, match="full"):
        await protocol.run(1)
    renewal = await protocol.run()
    assert renewal.was_adopted
    assert renewal.tokens.refresh_token.reveal() in protocol.authority.live


class _OneAnswer(FakeAuthority):
    def __init__(self, answer: RefreshedTokens) -> None:
        super().__init__()
        self.answer = answer

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        return self.answer


def answering(protocol: Protocol, answer: RefreshedTokens) -> Protocol:
    protocol.refresher._authority = _OneAnswer(answer)
    return protocol


async def test_what_the_answer_leaves_out_keeps_its_value() -> None:
    protocol = answering(Protocol(), RefreshedTokens(Secret("opaque")))
    tokens = (await protocol.run()).tokens
    assert tokens.access_token == Secret("opaque")
    assert tokens.refresh_token == protocol.tokens.refresh_token
    assert tokens.id_token == protocol.tokens.id_token
    assert tokens.account == protocol.tokens.account
    assert tokens.expires_at is None


async def test_an_id_token_that_is_no_jwt_is_not_taken() -> None:
    protocol = answering(Protocol(), RefreshedTokens(Secret(make_jwt(exp=2e9)), Secret("rt-2"), Secret("no jwt")))
    tokens = (await protocol.run()).tokens
    assert tokens.id_token == protocol.tokens.id_token
    assert tokens.account == protocol.tokens.account
    assert tokens.refresh_token == Secret("rt-2")
    assert tokens.expires_at == 2e9
    assert protocol.warnings == ["id_token_unreadable"]


async def test_an_id_token_of_somebody_else_does_not_end_the_login() -> None:
    protocol = Protocol()
    other = make_tokens(user_id="somebody else").id_token
    answering(protocol, RefreshedTokens(Secret("new access"), Secret("rt-new"), other))
    renewal = await protocol.run()
    assert (renewal.tokens.id_token, renewal.tokens.account) == (protocol.tokens.id_token, protocol.tokens.account)
    assert renewal.tokens.refresh_token == Secret("rt-new")
    assert protocol.warnings == ["id_token_of_another_account"]


async def test_a_new_id_token_may_change_the_plan() -> None:
    protocol = Protocol()
    account = msgspec.structs.replace(protocol.tokens.account, plan_type="pro")
    protocol.authority._live[protocol.tokens.refresh_token.reveal()] = account
    assert (await protocol.run()).tokens.account.plan_type == "pro"
