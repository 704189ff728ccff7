"""What a pool closes by itself: idle engines, the least recently used first, and never one that has work left."""

import asyncio

from support.pools import PoolOfTests

from authstate import IssuerUnavailable, StoreUnavailable
from authstate.engine.machines.login_attempt import LoginFlow
from authstate.testing import make_external_tokens


async def test_an_engine_is_closed_after_a_time_without_use() -> None:
    async with PoolOfTests() as pool:
        await pool.use("a")
        await pool.clock.elapse(300)
        await pool.use("b")
        await pool.clock.elapse(299)
        assert pool.names_open() == {"a", "b"}
        await pool.clock.elapse(2)
        assert pool.names_open() == {"b"}
        await pool.clock.elapse(300)
        assert pool.names_open() == set()
        assert pool.metrics().evicted == 2


async def test_each_use_begins_the_time_anew() -> None:
    async with PoolOfTests() as pool:
        for _ in range(5):
            await pool.use("a")
            await pool.clock.elapse(500)
        assert len(pool.account("a").made) == 1


async def test_an_engine_in_use_is_not_closed_however_long() -> None:
    async with PoolOfTests(most_open=1) as pool, pool.engine("a") as engine:
        await pool.use("b")
        await pool.clock.elapse(2000)
        assert pool.names_open() == {"a"}
        await engine.authorization()


async def test_nothing_runs_while_a_pool_has_no_engine_and_one_timer_is_enough_for_all_idle_ones() -> None:
    async with PoolOfTests() as pool:
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for number in range(50):
            await pool.use(f"org-{number}")
        await pool.clock.settle()
        assert len(asyncio.all_tasks()) == 2
        await pool.clock.elapse(601)
        assert pool.names_open() == set()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert pool.clock.slept == [600.0]


async def test_the_least_recently_used_engine_makes_room() -> None:
    async with PoolOfTests(most_open=2) as pool:
        for name in "abac":
            await pool.use(name)
        await pool.clock.settle()
        assert pool.names_open() == {"a", "c"}


async def test_the_pool_exceeds_its_limit_while_more_are_in_use_and_shrinks_again() -> None:
    async with PoolOfTests(most_open=2) as pool:
        async with pool.engine("a"), pool.engine("b"):
            async with pool.engine("c"), pool.engine("d"):
                assert (pool.metrics().open, pool.metrics().in_use) == (4, 4)
            await pool.clock.settle()
            assert pool.names_open() == {"a", "b"}
        await pool.clock.settle()
        assert pool.names_open() == {"a", "b"}
        assert pool.metrics().evicted == 2


async def test_an_engine_that_was_closed_is_opened_anew_with_the_login_of_its_store() -> None:
    async with PoolOfTests(most_open=1) as pool:
        token = await pool.use("a")
        await pool.use("b")
        assert await pool.use("a") == token
        assert pool.metrics().opened == 3
        assert len(pool.account("a").made) == 2


async def test_a_refresh_that_is_under_way_keeps_its_engine() -> None:
    async with PoolOfTests(expires_in=20.0, most_open=0) as pool:
        authority, user = await pool.begin_refresh("a")
        await pool.clock.elapse(3)
        await user
        assert (pool.metrics().open, pool.metrics().in_use, pool.metrics().refreshing) == (1, 0, 1)
        await pool.clock.elapse(1000)
        assert pool.names_open() == {"a"}
        authority.release()
        await pool.clock.elapse(10)
        assert pool.names_open() == set()
        assert pool.account("a").store.saves == 1


async def test_an_engine_that_had_work_left_is_used_again_meanwhile() -> None:
    async with PoolOfTests(expires_in=20.0, most_open=0) as pool:
        authority, user = await pool.begin_refresh("a")
        await pool.clock.elapse(3)
        await user
        authority.release()
        async with pool.engine("a"):
            await pool.clock.elapse(100)
            assert pool.names_open() == {"a"}
        await pool.clock.elapse(10)
        assert pool.names_open() == set()


async def test_engines_that_had_work_left_keep_their_place_in_the_order() -> None:
    async with PoolOfTests(expires_in=20.0, most_open=3) as pool:
        for name in "ab":
            pool.account(name).authority.hold()
        users = [asyncio.create_task(pool.use(name)) for name in "ab"]
        await pool.clock.elapse(3)
        await asyncio.gather(*users)
        pool.expires_in = 3600.0
        async with pool.engine("c"), pool.engine("d"), pool.engine("e"), pool.engine("f"):
            for name in "ab":
                pool.account(name).authority.release()
            await pool.clock.settle()
            assert pool.names_open() == set("abcdef")
        await pool.clock.settle()
        assert pool.names_open() == {"a", "b", "c"}
        await pool.clock.elapse(5)
        await pool.use("d")
        await pool.clock.settle()
        assert pool.names_open() == {"b", "c", "d"}


async def test_a_refresh_that_waits_for_its_turn_keeps_its_engine() -> None:
    async with PoolOfTests(expires_in=200.0, most_open=0) as pool:
        names = [f"org-{number}" for number in range(10)]
        await asyncio.gather(*(pool.use(name) for name in names))
        await pool.clock.elapse(30)
        assert [pool.account(name).store.saves for name in names] == [1] * 10
        assert pool.names_open() == set()


async def test_tokens_that_are_not_stored_keep_their_engine() -> None:
    async with PoolOfTests(expires_in=-1.0, most_open=0) as pool:
        store = pool.account("a").store
        lock, store.locked = store.locked, lambda: _Full(lock())  # type: ignore[assignment, return-value]
        user = asyncio.create_task(pool.use("a"))
        await pool.clock.elapse(2)
        (fault,) = await asyncio.gather(user, return_exceptions=True)
        assert isinstance(fault, StoreUnavailable)
        await pool.clock.elapse(1000)
        assert pool.names_open() == {"a"}
        store.locked = lock
        await pool.use("a")
        await pool.clock.elapse(10)
        assert pool.names_open() == set()
        assert len(pool.account("a").authority.sent) == 1


class _Full:
    """A lock under which nothing can be saved."""

    def __init__(self, lock) -> None:  # type: ignore[no-untyped-def]
        self.lock = lock

    async def __aenter__(self):  # type: ignore[no-untyped-def]
        held = await self.lock.__aenter__()

        async def full(credentials: object) -> None:
            raise StoreUnavailable("the disk is full")

        held.save = full
        return held

    async def __aexit__(self, *why: object) -> None:
        await self.lock.__aexit__(*why)


async def test_a_pause_after_a_failed_refresh_keeps_its_engine() -> None:
    """So an engine that is opened anew does not ask an issuer that just failed."""
    async with PoolOfTests(expires_in=-1.0, most_open=0) as pool:
        pool.account("a").authority.fail_next(IssuerUnavailable("down"), times=100)
        user = asyncio.create_task(pool.use("a"))
        await pool.clock.elapse(31)
        await asyncio.gather(user, return_exceptions=True)
        sent = len(pool.account("a").authority.sent)
        for _ in range(5):
            await asyncio.gather(pool.use("a"), return_exceptions=True)
        assert len(pool.account("a").authority.sent) == sent
        assert pool.names_open() == {"a"}
        await pool.clock.elapse(40)
        assert pool.names_open() == set()


async def test_what_lives_in_memory_only_keeps_its_engine() -> None:
    async with PoolOfTests(most_open=0) as pool:
        async with pool.engine("external") as engine:
            await engine.use_external_tokens(make_external_tokens(account_id="external", now=pool.clock.now()))
        async with pool.engine("login") as engine:
            await engine.begin_login("1", LoginFlow.DEVICE_CODE)
        await pool.clock.elapse(800)
        assert pool.names_open() == {"external", "login"}
        await pool.clock.elapse(150)
        assert pool.names_open() == {"external"}
        async with pool.engine("external") as engine:
            await engine.log_out()
        await pool.clock.elapse(10)
        assert pool.names_open() == set()


async def test_a_revocation_that_is_under_way_keeps_its_engine() -> None:
    async with PoolOfTests(most_open=0) as pool:
        authority = pool.account("a").authority
        async with pool.engine("a") as engine:
            authority.hold()
            await engine.log_out()
        await pool.clock.elapse(100)
        assert pool.names_open() == {"a"}
        authority.release()
        await pool.clock.elapse(10)
        assert pool.names_open() == set()


async def test_a_new_use_waits_for_the_end_of_an_evicted_engine_and_no_other_account_does() -> None:
    async with PoolOfTests(most_open=1) as pool:
        await pool.use("a")
        [engine] = pool.account("a").made
        gate, close = asyncio.Event(), engine.close

        async def slow_close(grace: float = 30.0) -> None:
            await gate.wait()
            await close(grace)

        engine.close = slow_close
        await pool.use("b")
        user = asyncio.create_task(pool.use("a"))
        await pool.clock.settle()
        await pool.use("c")
        assert not user.done()
        assert pool.metrics().closing >= 1
        gate.set()
        await user
