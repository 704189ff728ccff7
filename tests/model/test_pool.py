"""The real pool compared with its reference model: uses, cancellations, failures, slow stores and issuers, and ends.

The engines, stores and issuers are those of the other tests. After each step, every user, the open engines and all
numbers must be as the model says, and no account may have two engines.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from model.pool_reference import Pool
from support.pools import PoolOfTests

from authstate import AuthEngine, PoolMetrics

NAMES = "abcd"
NAME = st.sampled_from(NAMES)


class User:
    """A task that uses an engine until the test lets it go."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.engine: AuthEngine | None = None
        self.leave = asyncio.Event()
        self.task: asyncio.Task[None]

    async def run(self, pool: PoolOfTests) -> None:
        async with pool.engine(self.name) as engine:
            self.engine = engine
            await self.leave.wait()

    @property
    def outcome(self) -> str:
        if not self.task.done():
            return "waiting" if self.engine is None else "using"
        if self.task.cancelled():
            return "done"
        error = self.task.exception()
        return "done" if error is None else type(error).__name__


class PoolMachine(RuleBasedStateMachine):
    """Each rule does the same to a real pool and to its model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.real = self.run(self.make())
        self.model = Pool(NAMES, most_open=2, idle_after=600.0)
        self.users: dict[int, User] = {}
        self.others: list[asyncio.Task[Any]] = []
        self.faults: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))

    async def make(self) -> PoolOfTests:
        return PoolOfTests(most_open=2)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def settle(self) -> None:
        self.run(self.real.clock.settle(30))

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self.others.append(task)
        return task

    def teardown(self) -> None:
        for name in NAMES:
            self.real.account(name).store.gate.set()
            self.real.account(name).authority.release()
        self.run(self.real.close())
        for user in self.users.values():
            user.leave.set()
        self.settle()
        self.run(self.real.clock.elapse(1000))
        assert asyncio.all_tasks(self.loop) == set()
        for task in self.others:
            assert task.cancelled() or task.exception() is None
        for user in self.users.values():
            assert user.task.done()
        assert self.faults == []
        self.loop.close()

    def those(self, *outcomes: str) -> list[int]:
        return [number for number, outcome in self.model.users.items() if outcome in outcomes]

    def refreshing(self) -> list[str]:
        return [
            name
            for name, account in self.model.accounts.items()
            if any(lent is not None and lent.is_refreshing for lent in (account.lent, account.closing))
        ]

    # Users

    @rule(name=NAME, times=st.sampled_from((1, 1, 3)))
    def use(self, name: str, times: int) -> None:
        for _ in range(times):
            number = len(self.users)
            user = self.users[number] = User(name)
            user.task = self.loop.create_task(user.run(self.real))
        self.settle()
        self.model.use(range(len(self.users) - times, len(self.users)), name)

    @precondition(lambda self: self.those("using"))
    @rule(data=st.data())
    def end_use(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.those("using")))
        self.users[number].leave.set()
        self.settle()
        self.model.end(number, self.users[number].name)

    @precondition(lambda self: self.those("using", "waiting"))
    @rule(data=st.data())
    def cancel_use(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.those("using", "waiting")))
        self.users[number].task.cancel()
        self.settle()
        self.model.end(number, self.users[number].name)

    # Faults

    @rule(name=NAME)
    def store_is_slow(self, name: str) -> None:
        if name in self.refreshing():
            return  # a refresh reads the store, too, which the model does not know
        self.real.account(name).store.gate.clear()
        self.model.accounts[name].slow_store = True

    @rule(name=NAME)
    def store_answers(self, name: str) -> None:
        self.real.account(name).store.gate.set()
        self.settle()
        self.model.accounts[name].slow_store = False
        self.model.go_on(name)

    @rule(name=NAME, broken=st.booleans())
    def engine_cannot_be_made(self, name: str, broken: bool) -> None:
        self.real.account(name).fault = ValueError("the test's") if broken else None
        self.model.accounts[name].broken = broken

    # Refreshes

    @precondition(lambda self: self.can_refresh())
    @rule(data=st.data())
    def begin_refresh(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.can_refresh()))
        authority = self.real.account(name).authority
        authority.hold()
        engine = self.real.account(name).made[-1]
        self.begin(engine.refresh())
        self.settle()
        self.model.begin_refresh(name)

    def can_refresh(self) -> list[str]:
        return [
            name
            for name, account in self.model.accounts.items()
            if account.lent is not None and account.lent.is_open and account.lent.users
            if not (account.lent.is_refreshing or account.slow_store or account.closing)
        ]

    @precondition(lambda self: self.refreshing())
    @rule(data=st.data())
    def issuer_answers(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.refreshing()))
        self.real.account(name).authority.release()
        self.settle()
        self.model.end_refresh(name)

    # Time and ends

    @rule(seconds=st.sampled_from((1.0, 4.0, 6.0, 300.0, 601.0)))
    def time_passes(self, seconds: float) -> None:
        self.run(self.real.clock.elapse(seconds))
        self.settle()
        self.model.pass_time(seconds)

    @rule(name=NAME, is_cancelled=st.booleans())
    def drop(self, name: str, is_cancelled: bool) -> None:
        dropping = self.begin(self.real.drop(name))
        if is_cancelled:
            self.run(asyncio.sleep(0))
            dropping.cancel()
        self.settle()
        self.model.drop(name)

    @rule(is_cancelled=st.booleans(), again=st.integers(0, 9))
    def close(self, is_cancelled: bool, again: int) -> None:
        if again:  # seldom, because little happens afterwards
            return
        closing = self.begin(self.real.close())
        if is_cancelled:
            self.run(asyncio.sleep(0))
            closing.cancel()
        self.settle()
        self.model.close()

    # What must be so after each step

    @invariant()
    def users_are_where_they_should_be(self) -> None:
        assert {number: user.outcome for number, user in self.users.items()} == self.model.users

    @invariant()
    def numbers_are_those_of_the_model(self) -> None:
        lent = [account.lent for account in self.model.accounts.values() if account.lent is not None]
        assert self.real.metrics() == PoolMetrics(
            open=sum(one.is_open for one in lent),
            in_use=sum(bool(one.users) for one in lent),
            opening=sum(not one.is_open for one in lent),
            closing=sum(account.closing is not None for account in self.model.accounts.values()),
            refreshing=sum(one.is_refreshing for one in lent),
            paced=0,
            opened=self.model.opened,
            open_failures=self.model.open_failures,
            evicted=self.model.evicted,
            refreshed=self.model.refreshed,
            refresh_failures=0,
        )

    @invariant()
    def each_account_has_its_engine(self) -> None:
        for name, account in self.model.accounts.items():
            is_started = account.lent is not None and account.lent.is_made
            assert self.real.account(name).alive == (is_started or account.closing is not None), name
            for number in account.lent.users if account.lent is not None and account.lent.is_open else ():
                assert self.users[number].engine is self.real.account(name).made[-1]

    @invariant()
    def the_pool_is_no_larger_than_it_must_be(self) -> None:
        """Beyond its limit, every engine is in use or has work left (for at most one look)."""
        kept = [account.lent for name, account in self.model.accounts.items() if name not in self.model.skipped]
        needed = [one for one in kept if one is not None and (one.users or not one.is_open)]
        assert self.model.size <= max(2, len(needed)) + len(self.model.skipped)


def test_the_pool_does_what_its_model_says() -> None:
    run_state_machine_as_test(PoolMachine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
