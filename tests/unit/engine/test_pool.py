"""A pool lends engines: one for each account, opened once for all who wait, independent of all other accounts."""

import asyncio

import pytest
from support.pools import PoolOfTests

from authstate import (
    AuthEngine,
    EngineClosed,
    EnginePool,
    IssuerUnavailable,
    PoolClosed,
    StateChanged,
    StoreUnavailable,
    TransientAuthError,
    Trigger,
    Warned,
)
from authstate.testing import FakeAuthority, MemoryStore, make_tokens


async def test_an_engine_is_opened_with_its_first_use_and_kept() -> None:
    async with PoolOfTests() as pool:
        async with pool.engine("a") as first, pool.engine("a") as second:
            assert first is second
            assert first.session.account is not None
            assert first.session.account.account_id == "a"
        assert pool.is_open("a") and not pool.is_open("b")
        async with pool.engine("a") as again, pool.engine("b") as other:
            assert again is first
            assert other is not first
        assert pool.metrics().opened == 2
    assert pool.names_open() == set()


async def test_a_pool_works_with_the_real_clock() -> None:
    tokens = make_tokens(expires_in=100)
    store, authority = MemoryStore(tokens), FakeAuthority(tokens)
    async with EnginePool[int](lambda _: AuthEngine(store, authority)) as pool, pool.engine(1) as engine:
        await engine.authorization()
        await authority.asked()
    assert store.saves == 1


async def test_all_users_wait_for_one_opening() -> None:
    async with PoolOfTests() as pool:
        pool.account("a").store.gate.clear()
        users = [asyncio.create_task(pool.use("a")) for _ in range(5)]
        await pool.clock.settle()
        assert (pool.metrics().opening, pool.metrics().in_use, pool.metrics().open) == (1, 1, 0)
        pool.account("a").store.gate.set()
        assert len(set(await asyncio.gather(*users))) == 1
        assert len(pool.account("a").made) == 1
        assert (pool.metrics().opening, pool.metrics().in_use, pool.metrics().open) == (0, 0, 1)


async def test_a_user_who_is_cancelled_does_not_cancel_the_opening() -> None:
    async with PoolOfTests() as pool:
        pool.account("a").store.gate.clear()
        first, second = (asyncio.create_task(pool.use("a")) for _ in range(2))
        await pool.clock.settle()
        first.cancel()
        await pool.clock.settle()
        assert first.cancelled()
        pool.account("a").store.gate.set()
        await second
        assert len(pool.account("a").made) == 1


async def test_an_engine_that_nobody_waits_for_any_more_is_kept_as_an_idle_one() -> None:
    async with PoolOfTests() as pool:
        pool.account("a").store.gate.clear()
        user = asyncio.create_task(pool.use("a"))
        await pool.clock.settle()
        user.cancel()
        await pool.clock.settle()
        pool.account("a").store.gate.set()
        await pool.clock.settle()
        assert (pool.metrics().open, pool.metrics().in_use) == (1, 0)
        await pool.clock.elapse(601)
        assert pool.metrics().open == 0


@pytest.mark.parametrize("fault", [StoreUnavailable("no such account"), ValueError("no such account")])
async def test_an_opening_that_fails_fails_for_all_who_wait_and_is_not_remembered(fault: Exception) -> None:
    async with PoolOfTests() as pool:
        pool.account("a").fault = fault
        results = await asyncio.gather(*(pool.use("a") for _ in range(3)), return_exceptions=True)
        assert {(type(result), str(result)) for result in results} == {(type(fault), "no such account")}
        assert pool.metrics().open_failures == 1
        pool.account("a").fault = None
        await pool.use("a")
        assert pool.metrics().opened == 1


async def test_each_who_waits_gets_an_error_of_its_own() -> None:
    async with PoolOfTests() as pool:
        pool.account("a").fault = StoreUnavailable("no such account")
        first, second = await asyncio.gather(pool.use("a"), pool.use("a"), return_exceptions=True)
        assert isinstance(first, StoreUnavailable)
        assert first is not second


async def test_a_start_that_fails_or_is_cancelled_by_itself_is_a_failed_opening() -> None:
    async with PoolOfTests() as pool:
        pool.account("a").store.fault = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            await pool.use("a")
        pool.account("a").store.fault = None
        pool.account("b").store.fault = asyncio.CancelledError()  # type: ignore[assignment]
        with pytest.raises(TransientAuthError, match="try again"):
            await pool.use("b")
        pool.account("b").store.fault = None
        await asyncio.gather(pool.use("a"), pool.use("b"))
        assert pool.metrics().open_failures == 2


async def test_a_failed_opening_is_not_lost_though_nobody_waits_for_it() -> None:
    async with PoolOfTests() as pool:
        pool.account("a").store.gate.clear()
        pool.account("a").store.fault = ValueError()
        user = asyncio.create_task(pool.use("a"))
        await pool.clock.settle()
        user.cancel()
        await pool.clock.settle()
        pool.account("a").store.gate.set()
        await pool.clock.settle()
        assert (pool.metrics().open_failures, pool.metrics().opening) == (1, 0)


# Fairness


async def test_a_slow_store_holds_up_no_other_account() -> None:
    async with PoolOfTests() as pool:
        pool.account("slow").store.gate.clear()
        user = asyncio.create_task(pool.use("slow"))
        await asyncio.gather(*(pool.use(f"org-{number}") for number in range(20)))
        assert not user.done()
        assert pool.clock.monotonic() == 0.0
        pool.account("slow").store.gate.set()
        await user


async def test_an_outage_of_one_account_holds_up_no_other() -> None:
    async with PoolOfTests(expires_in=-1.0) as pool:
        pool.account("down").authority.fail_next(IssuerUnavailable("down"), times=100)
        user = asyncio.create_task(pool.use("down"))
        await pool.clock.settle()
        await asyncio.gather(*(pool.use(f"org-{number}") for number in range(20)))
        assert not user.done()
        await pool.clock.elapse(31)
        with pytest.raises(IssuerUnavailable):
            await user
        assert (pool.metrics().refreshed, pool.metrics().refresh_failures) == (20, 1)


async def test_an_issuer_that_does_not_answer_holds_up_no_other_account_and_no_background_refresh() -> None:
    async with PoolOfTests(expires_in=200.0) as pool:
        pool.account("slow").authority.hold()
        names = ("slow", "b", "c", "d")
        await asyncio.gather(*(pool.use(name) for name in names))
        await pool.clock.elapse(3)
        assert [len(pool.account(name).authority.sent) for name in names] == [1, 1, 1, 1]
        metrics = pool.metrics()
        assert (metrics.refreshing, metrics.refreshed, metrics.paced) == (1, 3, 0)
        pool.account("slow").authority.release()


async def test_a_burst_at_one_instant_is_spread_within_the_window_of_the_tokens() -> None:
    async with PoolOfTests(expires_in=290.0) as pool:
        names = [f"org-{number}" for number in range(400)]
        await asyncio.gather(*(pool.use(name) for name in names))
        counts: list[int] = []
        for _ in range(230):
            before = pool.metrics().refreshed
            await pool.clock.elapse(1)
            counts.append(pool.metrics().refreshed - before)
        assert sum(counts) == 400, "a minute before requests would wait"
        assert max(counts) <= 4
        assert (pool.metrics().paced, pool.metrics().refreshing) == (0, 0)
        assert all(len(pool.account(name).authority.sent) == 1 for name in names)


async def test_in_a_burst_what_a_request_needs_does_not_wait() -> None:
    async with PoolOfTests(expires_in=290.0) as pool:
        names = [f"org-{number}" for number in range(50)]
        await asyncio.gather(*(pool.use(name) for name in names))
        async with pool.engine("org-49") as engine:
            await engine.refresh()
        assert pool.account("org-49").store.saves == 1
        assert pool.clock.monotonic() == 0.0
        assert pool.metrics().paced == 48


# Events


async def test_the_events_of_all_engines_are_delivered_with_their_account() -> None:
    async with PoolOfTests() as pool:
        heard: list[str] = []
        end = pool.subscribe(lambda account, event: heard.append(account))
        await asyncio.gather(pool.use("a"), pool.use("b"))
        assert heard == ["a", "b"]
        end()
        await pool.use("c")
        assert heard == ["a", "b"]
        triggers = [(name, event.trigger) for name, event in pool.events if isinstance(event, StateChanged)]
        assert triggers == [(name, Trigger.COMPLETE_CHATGPT_LOGIN) for name in "abc"]


# Dropping


async def test_a_dropped_engine_is_closed_though_it_is_in_use_and_the_next_use_opens_another() -> None:
    async with PoolOfTests() as pool:
        async with pool.engine("a") as engine:
            await pool.drop("a")
            with pytest.raises(EngineClosed):
                await engine.authorization()
            async with pool.engine("a") as other:
                assert other is not engine
        assert pool.metrics().open == 1
        await pool.drop("a")
        await pool.drop("a")
        await pool.drop("never used")
        assert (pool.metrics().open, pool.metrics().closing, pool.metrics().evicted) == (0, 0, 0)
        assert pool.names_open() == set()


async def test_who_waits_for_an_engine_that_is_dropped_gets_the_next_one() -> None:
    async with PoolOfTests() as pool:
        pool.account("a").store.gate.clear()
        user = asyncio.create_task(pool.use("a"))
        await pool.clock.settle()
        await pool.drop("a")
        await pool.clock.settle()
        assert not user.done()
        assert len(pool.account("a").made) == 2
        pool.account("a").store.gate.set()
        await user
        assert pool.metrics().open_failures == 0


async def test_who_waits_for_an_opening_that_ended_just_before_a_drop_gets_the_next_engine() -> None:
    async with PoolOfTests() as pool:
        started = asyncio.Event()
        pool.subscribe(lambda account, event: started.set())
        user = asyncio.create_task(pool.use("a"))
        await started.wait()
        assert pool.metrics().open == 1
        await pool.drop("a")
        await user
        assert len(pool.account("a").made) == 2


async def test_a_new_engine_waits_for_the_end_of_the_one_before_and_other_accounts_do_not() -> None:
    async with PoolOfTests(expires_in=-1.0) as pool:
        authority, user = await pool.begin_refresh("a")
        dropping = asyncio.create_task(pool.drop("a"))
        await pool.clock.settle()
        next_user = asyncio.create_task(pool.use("a"))
        await pool.clock.settle()
        await pool.use("b")
        assert (pool.metrics().closing, pool.metrics().opening) == (1, 1)
        assert len(pool.account("a").made) == 1
        second_drop = asyncio.create_task(pool.drop("a"))
        await pool.clock.settle()
        assert not dropping.done() and not second_drop.done()
        authority.release()
        await asyncio.gather(dropping, second_drop)
        with pytest.raises(EngineClosed):
            await user
        assert await next_user
        assert len(pool.account("a").made) == 2
        assert len(authority.sent) == 1


async def test_a_drop_that_is_cancelled_closes_the_engine_all_the_same() -> None:
    async with PoolOfTests(expires_in=-1.0) as pool:
        authority, user = await pool.begin_refresh("a")
        dropping = asyncio.create_task(pool.drop("a"))
        await pool.clock.settle()
        dropping.cancel()
        await pool.clock.settle()
        authority.release()
        with pytest.raises(EngineClosed):
            await user
        await pool.clock.settle()
        assert pool.names_open() == set()
        assert pool.account("a").store.saves == 1


# Closing


async def test_a_closed_pool_opens_nothing() -> None:
    pool = PoolOfTests()
    async with pool.engine("a") as engine:
        await pool.close()
        with pytest.raises(EngineClosed):
            await engine.authorization()
    with pytest.raises(PoolClosed, match="make a new one"):
        await pool.use("a")
    await pool.close()
    await pool.drop("a")


async def test_who_waits_for_an_opening_when_the_pool_is_closed_gets_pool_closed() -> None:
    pool = PoolOfTests()
    pool.account("a").store.gate.clear()
    users = [asyncio.create_task(pool.use("a")) for _ in range(2)]
    await pool.clock.settle()
    await pool.close()
    results = await asyncio.gather(*users, return_exceptions=True)
    assert [type(result) for result in results] == [PoolClosed, PoolClosed]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_close_waits_for_all_tokens_that_are_being_spent_at_the_same_time() -> None:
    pool = PoolOfTests(expires_in=-1.0)
    names = [f"org-{number}" for number in range(5)]
    for name in names:
        pool.account(name).authority.hold()
    users = [asyncio.create_task(pool.use(name)) for name in names]
    for name in names:
        await pool.account(name).authority.asked()
    closing = asyncio.create_task(pool.close())
    await pool.clock.settle()
    assert not closing.done()
    assert pool.metrics().closing == 5
    for name in names:
        pool.account(name).authority.release()
    await closing
    await asyncio.gather(*users, return_exceptions=True)
    assert [pool.account(name).store.saves for name in names] == [1] * 5
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_close_ends_with_its_grace_and_says_which_refresh_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authstate.engine.pool._SLACK", 60.0)  # a busy machine may be slow to end the engines
    pool = PoolOfTests(expires_in=-1.0)
    for name in "ab":
        pool.account(name).authority.hold()
    users = [asyncio.create_task(pool.use(name)) for name in "ab"]
    for name in "ab":
        await pool.account(name).authority.asked()
    began = asyncio.get_running_loop().time()
    await pool.close(grace=0.01)
    assert asyncio.get_running_loop().time() - began < 60
    codes = [(name, event.code) for name, event in pool.events if isinstance(event, Warned)]
    assert codes == [("a", "refresh_abandoned"), ("b", "refresh_abandoned")]
    for name in "ab":
        pool.account(name).authority.release()
    await asyncio.gather(*users, return_exceptions=True)


async def test_a_close_does_not_wait_longer_than_its_own_grace_for_an_earlier_drop() -> None:
    pool = PoolOfTests(expires_in=-1.0)
    authority, user = await pool.begin_refresh("a")
    dropping = asyncio.create_task(pool.drop("a", grace=1000.0))
    await pool.clock.settle()
    await pool.close(grace=0.01)
    await dropping
    authority.release()
    with pytest.raises(EngineClosed):
        await user
    assert pool.account("a").store.saves == 1


async def test_a_close_that_is_cancelled_closes_all_the_same_and_can_be_waited_for_again() -> None:
    pool = PoolOfTests(expires_in=-1.0)
    authority, user = await pool.begin_refresh("a")
    closing = asyncio.create_task(pool.close())
    await pool.clock.settle()
    closing.cancel()
    await pool.clock.settle()
    assert closing.cancelled()
    with pytest.raises(PoolClosed):
        await pool.use("b")
    again = asyncio.create_task(pool.close())
    await pool.clock.settle()
    assert not again.done()
    authority.release()
    await again
    with pytest.raises(EngineClosed):
        await user
    assert pool.account("a").store.saves == 1
    assert pool.names_open() == set()
