"""Background refreshes of an engine with a pacer wait for their turn, and what a caller waits for does not."""

import asyncio
from collections.abc import Callable

from authstate import ApiKey, AuthEngine, AuthState, IssuerUnavailable, PersonalAccessToken
from authstate.testing import FakeAuthority, ManualClock, MemoryStore


class HeldPacer:
    """A pacer that gives a turn when the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.begin: Callable[[], None] | None = None

    def pace(self, seconds: float, begin: Callable[[], None]) -> Callable[[], None]:
        assert self.begin is None
        self.asked.append(seconds)
        self.begin = begin

        def withdraw() -> None:
            self.begin = None

        return withdraw

    def give_turn(self) -> None:
        assert self.begin is not None
        begin, self.begin = self.begin, None
        begin()


class World:
    def __init__(self, expires_in: float) -> None:
        self.clock = ManualClock()
        self.authority = FakeAuthority(clock=self.clock, expires_in=expires_in)
        self.store = MemoryStore(self.authority.issue())
        self.authority.expires_in = 3600.0
        self.pacer = HeldPacer()
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock)
        self.engine.pace_with(self.pacer)

    @property
    def sent(self) -> int:
        return len(self.authority.sent)


async def test_a_background_refresh_waits_for_its_turn() -> None:
    world = World(200.0)
    async with world.engine as engine:
        for _ in range(3):
            first = await engine.authorization()
        await world.clock.settle()
        assert (world.sent, world.pacer.asked, engine.is_refreshing, engine.is_replaceable) == (
            0,
            [140.0],
            False,
            False,
        )
        world.pacer.give_turn()
        assert engine.is_refreshing
        await world.clock.settle()
        assert (world.sent, engine.is_refreshing, engine.is_replaceable) == (1, False, True)
        assert (await engine.authorization()).token != first.token
    assert len(world.pacer.asked) == 1


async def test_without_a_pacer_it_begins_at_once() -> None:
    world = World(200.0)
    world.engine.pace_with(None)
    async with world.engine as engine:
        await engine.authorization()
        await world.clock.settle()
        assert (world.sent, world.pacer.asked) == (1, [])


async def test_what_callers_wait_for_is_not_paced_and_takes_the_place_of_the_paced_one() -> None:
    world = World(200.0)
    async with world.engine as engine:
        await engine.authorization()
        assert world.pacer.begin is not None
        await engine.refresh()
        assert (world.sent, world.pacer.begin) == (1, None)


async def test_a_paced_refresh_begins_at_once_when_it_has_become_urgent() -> None:
    world = World(200.0)
    async with world.engine as engine:
        old = await engine.authorization()
        world.clock.advance(175)
        assert (await engine.authorization()).token != old.token
        assert (world.sent, world.pacer.begin) == (1, None)


async def test_a_recovery_does_not_wait() -> None:
    world = World(200.0)
    async with world.engine as engine:
        old = await engine.authorization()
        assert (await engine.recover(old)).token != old.token
        assert (world.sent, world.pacer.begin) == (1, None)


async def test_a_request_during_a_refresh_asks_for_no_turn() -> None:
    world = World(200.0)
    async with world.engine as engine:
        world.authority.hold()
        refresh = asyncio.create_task(engine.refresh())
        await world.authority.asked()
        await engine.authorization()
        assert world.pacer.asked == []
        world.authority.release()
        await refresh


async def test_a_turn_that_comes_when_nothing_is_to_be_refreshed_is_not_used() -> None:
    world = World(200.0)
    async with world.engine as engine:
        await engine.authorization()
        world.clock.jump_wall(-1000)
        world.pacer.give_turn()
        await world.clock.settle()
        assert world.sent == 0
        assert engine.is_replaceable


async def test_a_login_a_logout_and_the_end_withdraw_a_paced_refresh() -> None:
    for end in ("api key", "log out", "close"):
        world = World(200.0)
        async with world.engine as engine:
            await engine.authorization()
            if end == "api key":
                await engine.use_api_key(ApiKey.parse("sk-1"))
            elif end == "log out":
                await engine.log_out()
            else:
                await engine.close()
            assert world.pacer.begin is None
        assert world.sent == 0


async def test_after_a_failed_refresh_the_next_one_asks_for_its_turn_anew() -> None:
    world = World(290.0)
    async with world.engine as engine:
        world.authority.fail_next(IssuerUnavailable("down"), times=100)
        await engine.authorization()
        world.pacer.give_turn()
        await world.clock.elapse(31)
        assert not engine.is_replaceable
        await engine.authorization()
        assert world.pacer.begin is None, "the pause"
        await world.clock.elapse(31)
        assert engine.is_replaceable
        await engine.authorization()
        assert world.pacer.begin is not None


async def test_tokens_that_look_old_by_a_wrong_clock_keep_their_engine_for_a_while() -> None:
    """A new engine would not know that they are new, and would refresh them again."""
    world = World(-100.0)
    world.authority.expires_in = -100.0
    async with world.engine as engine:
        await engine.authorization()
        assert not engine.is_replaceable
        world.clock.advance(61)
        assert engine.is_replaceable


async def test_an_engine_is_replaceable_while_nothing_happens_in_whichever_state() -> None:
    world = World(3600.0)
    async with world.engine as engine:
        assert engine.is_replaceable
        await engine.authorization()
        assert engine.is_replaceable
        world.authority.kill()
        await asyncio.gather(engine.refresh(), return_exceptions=True)
        assert engine.session.state is AuthState.REFRESH_DEAD
        assert engine.is_replaceable
        await engine.log_out()
        await world.clock.settle()
        assert engine.is_replaceable


async def test_a_close_takes_its_grace_once() -> None:
    """Not once for the refresh, once for tokens to be stored and once for revocations."""
    world = World(-100.0)
    loop = asyncio.get_running_loop()
    await world.engine.start()
    world.authority.hold()
    await world.engine.log_out()
    await world.engine.complete_chatgpt_login(world.authority.issue())
    refresh = asyncio.create_task(world.engine.refresh())
    await world.authority.asked()
    waits: list[float | None] = []
    wait = asyncio.wait

    async def noted(tasks, timeout=None, **options):  # type: ignore[no-untyped-def]
        waits.append(timeout)
        return await wait(tasks, timeout=timeout, **options)

    asyncio.wait = noted  # type: ignore[assignment]
    try:
        began = loop.time()
        await world.engine.close(grace=0.05)
    finally:
        asyncio.wait = wait
    assert loop.time() - began < 5
    assert waits[0] == 0.05
    assert waits[-1] is not None and waits[-1] < 0.05
    world.authority.release()
    await refresh


async def test_an_engine_that_asks_whose_a_personal_token_is_or_pauses_after_that_is_not_replaceable() -> None:
    clock = ManualClock()
    authority = FakeAuthority(clock=clock)
    authority.owners["at-1"] = IssuerUnavailable("down")
    authority.hold()
    async with AuthEngine(MemoryStore(PersonalAccessToken.read("at-1")), authority, clock=clock) as engine:
        assert engine.is_replaceable
        asking = asyncio.create_task(engine.authorization())
        await clock.settle()
        assert not engine.is_replaceable
        authority.release()
        await asyncio.gather(asking, return_exceptions=True)
        assert not engine.is_replaceable
        clock.advance(31)
        assert engine.is_replaceable
