"""What a refresh promises while a token is being spent, to those who share it and to those who must not wait for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.model.errors import (
    AuthError,
    Delivery,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    RefreshInterrupted,
)
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.model.session import Authorization
from authstate.engine.model.states import AuthState
from authstate.engine.ports import HeldStore
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens

BUSY = IssuerUnavailable("503", delivery=Delivery.NOT_PROCESSED)


class SlowStore(MemoryStore):
    """A store that takes its time at one step after the issuer has answered."""

    def __init__(self, credentials: ChatgptTokens, slow_step: str) -> None:
        super().__init__(credentials)
        self.slow_step = slow_step
        self.steps: list[str] = []
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def step(self, name: str) -> None:
        self.steps.append(name)
        if f"{name} {self.steps.count(name)}" == self.slow_step:
            self.reached.set()
            await self.go.wait()

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        async with super().locked() as held:
            yield _SlowHeld(self, held)


class _SlowHeld:
    def __init__(self, store: SlowStore, held: HeldStore) -> None:
        self._store = store
        self._held = held
        self.prepare, self.record, self.delete = held.prepare, held.record, held.delete

    async def load(self) -> Credentials | None:
        await self._store.step("load")
        return await self._held.load()

    async def save(self, credentials: Credentials) -> None:
        await self._store.step("save")
        await self._held.save(credentials)


class World:
    """An engine with an expired login; its clock, issuer and store are under the control of the test."""

    def __init__(self, slow_step: str = "", settings: RefreshSettings | None = None) -> None:
        self.clock = ManualClock()
        self.tokens = make_tokens(expires_in=-10.0, now=self.clock.now())
        self.authority = FakeAuthority(self.tokens, clock=self.clock)
        self.store = SlowStore(self.tokens, slow_step)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock, settings=settings)


@pytest.mark.parametrize("end", ["close", "log out", "log in"])
@pytest.mark.parametrize("slow_step", ["load 2", "save 1"])
async def test_from_the_answer_until_the_save_nobody_cancels_a_refresh(slow_step: str, end: str) -> None:
    """`load 2` is the second look: the answer is there, and the new refresh token exists nowhere else."""
    world = World(slow_step)
    await world.engine.start()
    caller = asyncio.create_task(world.engine.refresh())
    await world.store.reached.wait()
    login = world.authority.issue(account_id="org-2")
    ends = {
        "close": world.engine.close,
        "log out": world.engine.log_out,
        "log in": lambda: world.engine.complete_chatgpt_login(login),
    }
    ending = asyncio.create_task(ends[end]())
    await world.clock.settle()
    assert not ending.done()
    world.store.go.set()
    await asyncio.gather(caller, ending)
    assert world.store.saves == (2 if end == "log in" else 1), "the new tokens were stored"
    await world.engine.close()
    brought = world.authority.grants[0].refresh_token
    assert brought is not None
    if end == "close":
        assert isinstance(world.store.credentials, ChatgptTokens)
        assert world.store.credentials.refresh_token == brought
    else:
        assert world.authority.revoked == [brought.reveal()], "the newest one, and not the spent one"


@pytest.mark.parametrize("error", [IssuerUnavailable("400", delivery=Delivery.REFUSED), BUSY], ids=["refused", "busy"])
@pytest.mark.parametrize("call", ["authorization", "refresh", "recover"])
async def test_ten_callers_share_one_refresh_that_fails(call: str, error: IssuerUnavailable) -> None:
    world = World(settings=RefreshSettings(total=0.0))
    await world.engine.start()
    world.authority.fail_next(error, times=99)
    world.authority.hold()
    refused = world.engine.session.generation

    async def ask() -> object:
        if call == "recover":
            return await world.engine.recover(Authorization(world.tokens.access_token, "org-1", refused))
        return await getattr(world.engine, call)()

    callers = [asyncio.create_task(ask()) for _ in range(10)]
    await world.authority.asked()
    await world.clock.settle()
    world.authority.release()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert len(world.authority.sent) == 1
    assert {str(outcome) for outcome in outcomes} == {str(error)}
    assert len({id(outcome) for outcome in outcomes}) == 10, "each caller gets an error of its own"


async def test_ten_callers_share_one_refresh_that_is_refused_for_good() -> None:
    world = World()
    await world.engine.start()
    world.authority.kill(RefreshDeadReason.REVOKED)
    outcomes = await asyncio.gather(*(world.engine.authorization() for _ in range(10)), return_exceptions=True)
    assert len(world.authority.sent) == 1
    assert {type(outcome) for outcome in outcomes} == {PermanentRefreshError}


@pytest.mark.parametrize("end", ["log in", "log out", "close"])
async def test_nobody_waits_through_the_back_off_of_a_refresh(end: str) -> None:
    """No time passes here: what waits for the next try of the refresh does not end."""
    world = World()
    await world.engine.start()
    world.authority.fail_next(BUSY, times=99)
    caller = asyncio.create_task(world.engine.refresh())
    await world.clock.until_asleep()
    new = world.authority.issue(account_id="org-2")
    ends = {
        "close": world.engine.close,
        "log out": world.engine.log_out,
        "log in": lambda: world.engine.complete_chatgpt_login(new),
    }
    ending = asyncio.create_task(ends[end]())
    await world.clock.settle()
    assert ending.done()
    await ending
    with pytest.raises(RefreshInterrupted):
        await caller
    assert len(world.authority.sent) == 1
    assert world.clock.sleepers == 0
    assert world.store.credentials is {"log in": new, "log out": None, "close": world.tokens}[end]


async def test_a_login_that_comes_during_the_last_try_waits_for_no_further_one() -> None:
    world = World()
    await world.engine.start()
    world.authority.fail_next(BUSY, times=99)
    world.authority.hold()
    caller = asyncio.create_task(world.engine.refresh())
    await world.authority.asked()
    new = world.authority.issue(account_id="org-2")
    login = asyncio.create_task(world.engine.complete_chatgpt_login(new))
    await world.clock.settle()
    assert not login.done(), "the token may be spent at this moment"
    world.authority.release()
    await world.clock.settle()
    assert login.done()
    with pytest.raises(AuthError):
        await caller
    assert len(world.authority.sent) == 1
    assert world.store.credentials is new


# How long


@pytest.mark.parametrize(("left", "patience"), [(3600.0, 2.0), (20.0, 2.0), (1.0, 0.5)])
async def test_by_default_a_request_waits_two_seconds_and_never_half_of_what_is_left(
    left: float, patience: float
) -> None:
    world = World()
    world.store.credentials = tokens = make_tokens(expires_in=left, now=world.clock.now())
    world.authority.accept(tokens)
    await world.engine.start()
    world.authority.hold()
    wait_for_request = asyncio.create_task(
        world.engine._flows.scheduler.wait_for_request(world.engine._flows.scheduler.start_or_join())
    )
    await world.authority.asked()
    await world.clock.elapse(patience - 0.01)
    assert not wait_for_request.done()
    await world.clock.elapse(0.01)
    with pytest.raises(TimeoutError):
        await wait_for_request
    world.authority.release()
    await world.engine.close()


async def test_by_default_the_first_look_takes_two_seconds() -> None:
    world = World()
    await world.engine.start()
    world.authority.hold()
    look = asyncio.create_task(world.engine.check())
    await world.authority.asked()
    await world.clock.elapse(1.99)
    assert not look.done()
    await world.clock.elapse(0.01)
    assert look.done()
    assert (await look).state is AuthState.CHATGPT
    world.authority.release()
    await world.engine.close()
