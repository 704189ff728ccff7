"""`SyncAuthEngine` compared with `AuthEngine`: one history in two worlds, by threads and by tasks.

After each step, what the callers got, the session, the store and the number of requests to the issuer must be the same.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from authstate import AuthEngine, AuthError, Authorization, Policy, RefreshDeadReason, RefreshSettings, SyncAuthEngine
from authstate.engine.model.policy import LoginMethod
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_external_tokens

CALLERS = 4
Work = Callable[[Any], Any]


class World:
    """One engine, and what it works with."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.authority = FakeAuthority(clock=self.clock)
        self.store = MemoryStore()
        self.engine = AuthEngine(
            self.store, self.authority, clock=self.clock, settings=RefreshSettings(rechecks=(0.0,))
        )

    async def settled(self, _: object = None) -> None:
        """Return when no refresh and no revocation is under way."""
        while others := {task for task in asyncio.all_tasks() if is_work(task)}:
            await asyncio.wait(others)

    async def do(self, _: object, work: Callable[["World"], None]) -> None:
        work(self)

    def shape(self) -> tuple[object, ...]:
        """What must be the same in both worlds. The tokens themselves have other names."""
        session = self.engine.session
        account = session.account.account_id if session.account else None
        stored = type(self.store.credentials).__name__
        sent = (len(self.authority.sent), len(self.authority.revoked))
        failure = session.failure.message if session.failure else None
        return session.state, session.generation, account, failure, stored, self.engine.is_expired(), sent


def is_work(task: "asyncio.Task[Any]") -> bool:
    """Whether a task is one of the engine: a refresh or a revocation."""
    name: str = getattr(task.get_coro(), "__qualname__", "")
    return name.startswith(("RefreshScheduler.", "Revocations."))


class SyncMachine(RuleBasedStateMachine):
    """`tasks` is the world of the reference, `threads` the one that is compared with it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.pool = ThreadPoolExecutor(CALLERS)
        self.tasks, self.threads = World(), World()
        self.sync = SyncAuthEngine(self.threads.engine)
        self.runner.run(self.tasks.engine.start())
        self.sync.start()
        self.seen: tuple[Authorization, Authorization] | None = None

    def teardown(self) -> None:
        self.runner.run(self.tasks.engine.close())
        self.sync.close()
        self.pool.shutdown()
        self.runner.close()
        assert self.tasks.shape() == self.threads.shape()

    def both(self, work: Callable[[World], None]) -> None:
        """Change both worlds, each in its event loop."""
        self.runner.run(self.tasks.do(None, work))
        self.sync.call(self.threads.do, work)

    def call(self, one: Work, other: Work, callers: int = 1) -> None:
        """Call both engines, with as many callers, and compare what they get."""
        works: list[Coroutine[Any, Any, object]] = [one(self.tasks.engine) for _ in range(callers)]
        expected = self.runner.run(gathered(works))
        futures = [self.pool.submit(other, self.sync) for _ in range(callers)]
        found = [future.exception() or future.result() for future in futures]
        self.runner.run(self.tasks.settled())
        self.sync.call(self.threads.settled)
        assert [told(each) for each in found] == [told(each) for each in expected]
        if isinstance(mine := expected[0], Authorization) and isinstance(theirs := found[0], Authorization):
            self.seen = mine, theirs

    @invariant()
    def both_worlds_are_the_same(self) -> None:
        assert self.tasks.shape() == self.threads.shape()
        fresh, other = self.tasks.engine.fresh_authorization(), self.sync.fresh_authorization()
        assert told(fresh) == told(other)

    @rule(min_lifetime=st.sampled_from((0.0, 0.0, 1800.0)))
    def ask(self, min_lifetime: float) -> None:
        work: Work = lambda engine: engine.authorization(min_lifetime)  # noqa: E731
        self.call(work, work, CALLERS)

    @rule()
    def recover(self) -> None:
        if self.seen is not None:
            mine, theirs = self.seen
            self.call(lambda engine: engine.recover(mine), lambda engine: engine.recover(theirs), CALLERS)

    @rule(name=st.sampled_from(("refresh", "check", "reload", "restore", "follow", "log_out")))
    def call_by_name(self, name: str) -> None:
        work: Work = lambda engine: getattr(engine, name)()  # noqa: E731
        self.call(work, work)

    @rule(workspace=st.sampled_from(("org-1", "org-2")))
    def sign_in(self, workspace: str) -> None:
        mine, theirs = (world.authority.issue(account_id=workspace) for world in (self.tasks, self.threads))
        self.call(lambda e: e.complete_chatgpt_login(mine), lambda e: e.complete_chatgpt_login(theirs))

    @rule(key=st.sampled_from(("sk-1", "sk-2", "no key")))
    def use_api_key(self, key: str) -> None:
        work: Work = lambda engine: engine.use_api_key(key)  # noqa: E731
        self.call(work, work)

    @rule()
    def use_external_tokens(self) -> None:
        tokens = make_external_tokens(now=self.tasks.clock.now())
        work: Work = lambda engine: engine.use_external_tokens(tokens)  # noqa: E731
        self.call(work, work)

    @rule(policy=st.sampled_from((Policy(), Policy(), Policy(forced_login_method=LoginMethod.API))))
    def set_policy(self, policy: Policy) -> None:
        self.both(lambda world: world.engine.set_policy(policy))

    # No time leads into the minutes in which the first caller begins a background refresh: what the next caller gets
    # then depends on who is quicker.
    @rule(seconds=st.sampled_from((1.0, 61.0, 3580.0, 4000.0)))
    def time_passes(self, seconds: float) -> None:
        self.both(lambda world: world.clock.advance(seconds))

    @rule(reason=st.sampled_from(RefreshDeadReason))
    def revoke(self, reason: RefreshDeadReason) -> None:
        self.both(lambda world: world.authority.kill(reason))


async def gathered(works: list[Coroutine[Any, Any, object]]) -> list[object]:
    return await asyncio.gather(*works, return_exceptions=True)


def told(result: object) -> object:
    """What a caller got, without what differs between two worlds."""
    if isinstance(result, Authorization):
        return result.generation, result.account_id, result.expires_at, result.is_api_key, sorted(result.headers())
    if isinstance(result, AuthError):
        return type(result), str(result)
    return type(result)


def test_threads_get_what_tasks_get() -> None:
    checks = tuple(HealthCheck)
    run_state_machine_as_test(
        SyncMachine,
        settings=settings(
            max_examples=50,
            stateful_step_count=20,
            derandomize=True,
            deadline=None,
            suppress_health_check=checks,  # pyright: ignore[reportArgumentType] - its own type of enumeration
        ),
    )
