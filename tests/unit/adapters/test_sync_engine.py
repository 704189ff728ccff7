"""`SyncAuthEngine`: the surface of the engine, its threads, and its ends: of a wait, of the engine, of the process."""

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
import typing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from authstate import (
    ApiKey,
    AuthEngine,
    Authorization,
    AuthState,
    EngineClosed,
    EngineNotStarted,
    Event,
    InvalidCredentials,
    LoginCompleted,
    LoginFlow,
    NotSignedIn,
    Policy,
    RefreshInterrupted,
    StateChanged,
    SyncAuthEngine,
    TransitionRefused,
    WrongEventLoop,
)
from authstate.testing import FakeAuthority, FakeParent, MemoryStore, make_external_tokens, make_tokens

CANARY = "canary-5c1f"
LEFT_OUT = {
    "begin_login": "for adapters that run a login attempt, such as start_browser_login: use them with `call`",
    "complete_login": "the same",
    "events": "an async iterator: `subscribe` does the same",
    "pace_with": "for a pool of engines, which has an event loop",
    "is_replaceable": "the same",
}
ITS_OWN = {"call", "ensure_may_wait"}


class World:
    """An engine with a login, and what it works with. `expires_in` is of the first tokens."""

    def __init__(self, expires_in: float = 3600.0) -> None:
        self.tokens = make_tokens(expires_in=expires_in)
        self.authority = FakeAuthority(self.tokens)
        self.store = MemoryStore(self.tokens)
        self.inner = AuthEngine(self.store, self.authority)
        self.engine = SyncAuthEngine(self.inner)
        self.threads = ThreadPoolExecutor(8)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The issuer holds its answers."""
        self.engine.call(_call, self.authority.hold)
        yield
        self.engine.call(_call, self.authority.release)

    def wait_for_question(self, times: int = 1) -> None:
        self.engine.call(lambda _: self.authority.asked(times))


async def _call(_: AuthEngine, function: Any) -> None:
    function()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with made.engine, made.threads:
        yield made


@pytest.fixture
def expired() -> Iterator[World]:
    made = World(expires_in=-10.0)
    with made.engine, made.threads:
        yield made


# The surface


def public(kind: type) -> dict[str, Any]:
    return {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}


def test_the_two_surfaces_agree() -> None:
    """A new method of the engine is delegated, or is left out with a reason."""
    engine, sync = public(AuthEngine), public(SyncAuthEngine)
    assert set(sync) == (set(engine) - set(LEFT_OUT)) | ITS_OWN


@pytest.mark.parametrize("name", sorted(set(public(AuthEngine)) - set(LEFT_OUT)))
def test_a_method_is_that_of_the_engine(name: str) -> None:
    """With the same parameters, defaults and result, and without the `await`."""
    one, other = public(AuthEngine)[name], public(SyncAuthEngine)[name]
    assert inspect.getdoc(other)
    if isinstance(one, property):
        assert isinstance(other, property)
        assert (one.fset is None) == (other.fset is None)
        one, other = one.fget, other.fget
        assert one is not None and other is not None
    assert not inspect.iscoroutinefunction(other)
    mine, theirs = inspect.signature(other), inspect.signature(one)
    assert [str(each) for each in mine.parameters.values()] == [str(each) for each in theirs.parameters.values()]
    if name != "background":
        assert typing.get_type_hints(other)["return"] == typing.get_type_hints(one)["return"]


# What it does


def test_it_has_the_session_of_the_engine_and_changes_it(world: World) -> None:
    engine = world.engine
    events: list[tuple[Event, int]] = []
    end = engine.subscribe(lambda event: events.append((event, threading.get_ident())))
    assert engine.session.state is AuthState.CHATGPT and engine.auth_mode == "chatgpt"
    assert (engine.policy, engine.store_fault, engine.identity_fault, engine.refresh_fault) == (
        Policy(),
        None,
        None,
        None,
    )
    assert (engine.pause_reason, engine.is_refreshing, engine.is_expired(), engine.urgency()) == (
        None,
        False,
        False,
        "none",
    )
    before = engine.authorization()
    assert engine.refresh().generation == 2
    newer = engine.recover(before)
    assert newer.generation == 2 and newer == engine.fresh_authorization() == engine.authorization(60.0)
    assert engine.check() is engine.restore() is engine.follow() is engine.session
    assert not engine.reload() and not engine.cancel_login("none")
    engine.use_api_key("sk-1")
    assert engine.session.credentials == ApiKey.parse("sk-1")
    engine.complete_chatgpt_login(tokens := world.authority.accept(make_tokens(account_id="org-2")))
    assert world.store.credentials is tokens
    engine.log_out()
    with pytest.raises(NotSignedIn):
        engine.authorization()
    engine.parent = FakeParent(make_external_tokens())
    assert isinstance(engine.parent, FakeParent)
    engine.use_external_tokens(make_external_tokens())
    assert engine.recover(engine.authorization()).is_parents_answer
    engine.set_policy(Policy(forced_workspaces=("org-9",)))
    assert engine.session.failure is not None
    end()
    changed = [event for event, _ in events if isinstance(event, StateChanged)]
    assert changed[-1].current is engine.session
    assert threading.get_ident() not in {thread for _, thread in events}


def test_settings_may_be_changed_before_the_start() -> None:
    engine = World().engine
    engine.parent = parent = FakeParent()
    engine.set_policy(policy := Policy(forced_workspaces=("org-9",)))
    with engine:
        assert (engine.parent, engine.policy) == (parent, policy)
        assert engine.session.state is AuthState.LOGGED_OUT


def test_a_fresh_token_costs_no_change_of_threads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.engine._thread, "call", None)
    first = world.engine.authorization()
    assert world.engine.authorization(60.0) is world.engine.fresh_authorization() is first


def test_many_threads_cost_one_refresh(expired: World) -> None:
    with expired.held():
        waiting = [expired.threads.submit(expired.engine.authorization) for _ in range(8)]
        expired.wait_for_question()
    assert len({one.result().token.reveal() for one in waiting}) == 1
    assert len(expired.authority.sent) == 1


def test_background_follows_other_processes(world: World) -> None:
    changed = threading.Event()
    world.engine.subscribe(lambda event: changed.set() if isinstance(event, StateChanged) else None)
    with world.engine.background():
        world.store.credentials = None
        assert changed.wait(30)
    assert world.engine.session.state is AuthState.LOGGED_OUT
    with world.engine.background():
        world.engine.close()


def test_the_steps_of_a_refresh_are_told_in_the_thread_of_the_engine(world: World) -> None:
    steps: list[tuple[str, int]] = []
    end = world.engine.subscribe_trace(lambda step: steps.append((type(step).__name__, threading.get_ident())))
    world.engine.refresh()
    end()
    world.engine.refresh()
    assert [name for name, _ in steps] == ["ClaimStep", "TokenSent", "TokenAnswered", "ClaimStep"]
    assert len({thread for _, thread in steps}) == 1 and steps[0][1] != threading.get_ident()


def test_a_listener_may_be_a_coroutine_function_and_may_subscribe_another(world: World) -> None:
    heard: list[str] = []
    done = threading.Event()

    async def slow(event: Event) -> None:
        heard.append("coroutine function")
        done.set()

    def listener(event: Event) -> None:
        heard.append("function")
        end()
        world.engine.subscribe(slow)

    end = world.engine.subscribe(listener)
    world.engine.refresh()
    assert done.wait(30)
    assert heard[:2] == ["function", "coroutine function"]


def test_call_hands_the_engine_to_a_coroutine_function(world: World) -> None:
    async def work(engine: AuthEngine, one: int, *, two: int) -> tuple[bool, int]:
        await engine.refresh()
        return engine is world.inner, one + two

    assert world.engine.call(work, 1, two=2) == (True, 3)
    assert world.engine.session.generation == 2


# Before the start, after the end, and in the wrong place


def uses(engine: SyncAuthEngine) -> dict[str, Any]:
    return {
        "authorization": engine.authorization,
        "fresh_authorization": engine.fresh_authorization,
        "refresh": engine.refresh,
        "use_api_key": lambda: engine.use_api_key("sk-1"),
        "background": lambda: engine.background().__enter__(),
        "call": lambda: engine.call(_call, int),
    }


@pytest.mark.parametrize("name", uses(World().engine))
def test_before_the_start_and_after_the_end_it_says_so(name: str) -> None:
    engine = World().engine
    with pytest.raises(EngineNotStarted):
        uses(engine)[name]()
    engine.start()
    engine.close()
    engine.close()
    with pytest.raises(EngineClosed):
        uses(engine)[name]()
    with pytest.raises(EngineClosed):
        engine.set_policy(Policy())
    with pytest.raises(EngineClosed):
        engine.start()
    assert engine.session.state is AuthState.CHATGPT, "what only reads goes on"


def test_an_engine_that_was_never_started_can_be_closed() -> None:
    engine = World().engine
    engine.close()
    with pytest.raises(EngineClosed):
        engine.start()


def test_a_second_start_is_refused_and_changes_nothing(world: World) -> None:
    session = world.engine.session
    with pytest.raises(TransitionRefused):
        world.engine.start()
    assert world.engine.session is session and world.engine.authorization()


def test_a_start_that_fails_may_be_tried_again() -> None:
    world = World()
    load, failing = world.store.load, [True]

    async def fail() -> Any:
        if failing.pop():
            raise OSError("a bug")
        return await load()

    world.store.load = fail
    with pytest.raises(OSError, match="a bug"):
        world.engine.start()
    assert not world.engine._thread.is_running
    failing.append(False)
    with world.engine:
        assert world.engine.session.state is AuthState.CHATGPT


def test_an_engine_that_runs_in_another_event_loop_is_refused() -> None:
    async def main() -> None:
        async with World().inner as inner:
            with pytest.raises(WrongEventLoop):
                await asyncio.to_thread(SyncAuthEngine(inner).start)

    asyncio.run(main())


def test_a_listener_that_waits_for_its_own_thread_is_told_so(world: World) -> None:
    said: list[BaseException] = []

    def listener(event: Event) -> None:
        for use in (world.engine.refresh, world.engine.close, world.engine.start):
            try:
                use()
            except WrongEventLoop as error:
                said.append(error)
        said.append(RuntimeError(str(world.engine.fresh_authorization())))

    world.engine.subscribe(listener)
    world.engine.refresh()
    assert [type(one) for one in said[:4]] == [WrongEventLoop] * 3 + [RuntimeError], "and a fresh token is no wait"
    assert "a listener" in str(said[0])


# The ends


def test_leaving_it_waits_for_a_token_that_is_being_spent(expired: World) -> None:
    """The issuer answers once the engine is being closed: that ends a login which is open."""
    expired.engine.call(_call, expired.authority.hold)
    waiting = expired.threads.submit(expired.engine.refresh)
    expired.wait_for_question()
    expired.engine.call(AuthEngine.begin_login, "id", LoginFlow.BROWSER)
    expired.engine.subscribe(lambda event: expired.authority.release() if is_end(event) else None)
    expired.engine.close()
    assert waiting.result(30).generation == 2
    assert expired.store.credentials is expired.engine.session.credentials, "the new tokens are stored"


def is_end(event: Event) -> bool:
    return isinstance(event, LoginCompleted)


def test_closing_ends_the_calls_that_wait_in_other_threads(world: World) -> None:
    begun = threading.Event()

    async def forever(_: AuthEngine) -> None:
        begun.set()
        await asyncio.Event().wait()

    waiting = world.threads.submit(world.engine.call, forever)
    assert begun.wait(30)
    for closing in [world.threads.submit(world.engine.close) for _ in range(3)]:
        closing.result(30)
    with pytest.raises(EngineClosed):
        waiting.result(30)
    assert not [thread for thread in threading.enumerate() if thread.name == "authstate-engine"]


def test_a_refresh_that_waits_for_nothing_is_interrupted(expired: World) -> None:
    """It waits for the lock of the store, which somebody else holds, so no token is being spent."""
    locked, leave = threading.Event(), asyncio.Event()

    async def hold(_: AuthEngine) -> None:
        async with expired.store.locked():
            locked.set()
            await leave.wait()

    holding = expired.threads.submit(expired.engine.call, hold)
    assert locked.wait(30)
    waiting = expired.threads.submit(expired.engine.authorization)
    while not expired.engine.is_refreshing:
        pass
    expired.engine.close()
    with pytest.raises((RefreshInterrupted, EngineClosed)):
        waiting.result(30)
    with pytest.raises(EngineClosed):
        holding.result(30)
    assert expired.authority.sent == []


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """What interrupts the main thread while it waits, once, for another thread to call.

    Python loses a signal that comes in the moment before a wait begins: a person presses the keys again.
    """
    interrupted = threading.Event()

    def interrupt_wait(_: int, frame: FrameType | None) -> None:
        waits = frame is not None and frame.f_code is threading.Condition.wait.__code__
        if waits and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def press() -> None:
        while not interrupted.wait(0.1):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.signal(signal.SIGINT, interrupt_wait)
    yield press
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not interrupt a wait for a lock")
def test_ctrl_c_ends_the_wait_and_cancels_no_refresh(expired: World, ctrl_c: Callable[[], None]) -> None:
    def interrupt() -> None:
        expired.wait_for_question()
        ctrl_c()

    with expired.held():
        with pytest.raises(KeyboardInterrupt):
            expired.threads.submit(interrupt)
            while True:
                expired.engine.refresh()
        assert expired.engine.is_refreshing
    assert expired.engine.authorization().generation == 2
    assert len(expired.authority.sent) == 1


def test_what_a_call_was_interrupted_in_is_cancelled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = threading.Event()

    async def forever(_: AuthEngine) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def interrupted(self: Future[Any], timeout: float | None = None) -> Any:
        if threading.current_thread() is threading.main_thread() and started:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return result(self, timeout)

    started: list[bool] = []
    result = Future.result
    portal = world.engine._thread._portal
    assert portal is not None
    start = portal.start_task_soon

    def start_task_soon(*args: Any) -> Any:
        future = start(*args)
        started.append(True)
        return future

    monkeypatch.setattr(portal, "start_task_soon", start_task_soon)
    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.engine.call(forever)
    assert cancelled.wait(30)


PROGRAM = """
import os, sys, threading
from authstate import AuthEngine, SyncAuthEngine, WrongEventLoop
from authstate.testing import FakeAuthority, MemoryStore, make_tokens
tokens = make_tokens(expires_in={expires_in})
store, authority = MemoryStore(tokens), FakeAuthority(tokens)
engine = SyncAuthEngine(AuthEngine(store, authority))
"""


def in_new_process(program: str, expires_in: float = 3600.0) -> str:
    text = PROGRAM.format(expires_in=expires_in) + program
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", text], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("before_the_end", ["", "raise SystemExit(0)"])
def test_a_program_that_forgets_to_close_ends_all_the_same(before_the_end: str) -> None:
    assert in_new_process(f"engine.start(); print(engine.session.state)\n{before_the_end}") == "chatgpt\n"


def test_a_program_that_forgets_to_close_does_not_lose_a_token_that_is_being_spent() -> None:
    """The issuer answers after the main thread has ended, once the engine is being closed."""
    program = """
import asyncio
from authstate import LoginCompleted, LoginFlow
async def begin(inner):
    authority.hold()
    refresh = asyncio.ensure_future(inner.refresh())
    await authority.asked()
    await inner.begin_login("id", LoginFlow.BROWSER)
    inner.subscribe(lambda event: authority.release() if isinstance(event, LoginCompleted) else None)
    inner.subscribe(lambda event: print(type(event).__name__, store.saves, flush=True))
    return refresh
engine.start()
kept = engine.call(begin)
print("the end", store.saves, flush=True)
"""
    lines = in_new_process(program, expires_in=-10.0).splitlines()
    assert lines[:2] == ["the end 0", "LoginCompleted 0"]
    assert "StateChanged 1" in lines[2:]


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="Windows has no fork")
def test_a_fork_is_told_and_can_open_an_engine_of_its_own() -> None:
    program = """
def said(use):
    try:
        return use()
    except WrongEventLoop as error:
        return "fork" in str(error)
with engine:
    unstarted = SyncAuthEngine(AuthEngine(store, authority))
    with engine._thread._lock:  # of another thread, at that moment
        child = os.fork()
    if child == 0:
        uses = (engine.authorization, engine.fresh_authorization, engine.refresh, engine.log_out, engine.close)
        print([said(use) for use in uses], engine.session.state, flush=True)
        with unstarted:
            print(unstarted.refresh().generation, flush=True)
    else:
        assert os.waitpid(child, 0)[1] == 0
        print(engine.refresh().generation)
"""
    lines = in_new_process(program).splitlines()
    assert lines == ["[True, True, True, True, True] chatgpt", "2", "2"]


# Secrets


@pytest.mark.parametrize("is_debug", [False, True])
def test_no_error_and_no_frame_shows_what_was_given(is_debug: bool, capfd: pytest.CaptureFixture[str]) -> None:
    world = World()
    with world.engine, world.threads:
        world.engine.call(_call, lambda: asyncio.get_running_loop().set_debug(is_debug))
        world.engine.call(_call, lambda: setattr(asyncio.get_running_loop(), "slow_callback_duration", 0.0))
        with pytest.raises(InvalidCredentials) as refused:
            world.engine.use_api_key(f"{CANARY} {CANARY}")
        world.engine.use_api_key(f"sk-{CANARY}")
        refused_too = world.engine.authorization()
        for shown in (refused_too, world.engine, vars(world.engine), vars(world.engine._thread)):
            assert CANARY not in repr(shown)
        with pytest.raises(Exception) as exhausted:
            world.engine.recover(refused_too)
    for error in (refused.value, exhausted.value):
        frame = error.__traceback__
        while frame is not None:
            if "/tests/" not in frame.tb_frame.f_code.co_filename.replace("\\", "/"):
                assert CANARY not in repr(frame.tb_frame.f_locals), frame.tb_frame
            frame = frame.tb_next
        assert error.__context__ is None and error.__cause__ is None
    assert CANARY not in "".join(capfd.readouterr())


def test_an_authorization_is_the_engines(world: World) -> None:
    assert world.engine.authorization() == Authorization.of(world.inner.session)
