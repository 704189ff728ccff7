"""Where and when an engine may be used: what is said before its start, after its end, and in another event loop.

The walk over the public methods finds a new one by itself: it must be called here, or be named as one that only reads.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from authstate import (
    AuthEngine,
    AuthError,
    AuthState,
    EngineClosed,
    EngineNotStarted,
    LoginFlow,
    Policy,
    Session,
    TransitionRefused,
    WrongEventLoop,
)
from authstate.engine.machines.login_attempt import LOGIN_TABLE, LoginAttempt
from authstate.engine.machines.table import shared_machine
from authstate.engine.model.events import Listeners
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization
from authstate.testing import FakeAuthority, FakeParent, MemoryStore, make_external_tokens, make_tokens

Use = Callable[[AuthEngine], object]


def attempt() -> LoginAttempt:
    return LoginAttempt("id", LoginFlow.BROWSER, shared_machine(LOGIN_TABLE), Listeners())


def set_parent(engine: AuthEngine) -> None:
    engine.parent = FakeParent()


COROUTINES: dict[str, Callable[[AuthEngine], Coroutine[Any, Any, object]]] = {
    "restore": lambda engine: engine.restore(),
    "follow": lambda engine: engine.follow(),
    "authorization": lambda engine: engine.authorization(),
    "recover": lambda engine: engine.recover(Authorization(Secret("x"), None, 0)),
    "refresh": lambda engine: engine.refresh(),
    "check": lambda engine: engine.check(),
    "reload": lambda engine: engine.reload(),
    "use_api_key": lambda engine: engine.use_api_key("sk-1"),
    "complete_chatgpt_login": lambda engine: engine.complete_chatgpt_login(make_tokens()),
    "begin_login": lambda engine: engine.begin_login("id", LoginFlow.BROWSER),
    "cancel_login": lambda engine: engine.cancel_login("id"),
    "complete_login": lambda engine: engine.complete_login(attempt(), make_tokens()),
    "use_external_tokens": lambda engine: engine.use_external_tokens(make_external_tokens()),
    "log_out": lambda engine: engine.log_out(),
}
CHANGES: dict[str, Use] = {
    "parent": set_parent,
    "pace_with": lambda engine: engine.pace_with(None),
    "set_policy": lambda engine: engine.set_policy(Policy()),
}
"""They may be called before the start, too."""
ANYWHERE = {
    *("session", "policy", "auth_mode", "urgency", "is_expired", "store_fault", "identity_fault", "refresh_fault"),
    *("pause_reason", "is_refreshing", "is_replaceable", "subscribe", "subscribe_trace", "events"),
}
"""They read, in any thread and at any time. A listener is added in one step."""
OF_THEIR_OWN = {"start", "close", "background", "fresh_authorization"}


def test_every_public_method_is_in_one_of_the_groups() -> None:
    public = {name for name in dir(AuthEngine) if not name.startswith("_")}
    assert public == {*COROUTINES, *CHANGES, *ANYWHERE, *OF_THEIR_OWN}
    coroutines = {name for name in public if inspect.iscoroutinefunction(getattr(AuthEngine, name))}
    assert coroutines == {*COROUTINES, "start", "close"}


def an_engine() -> AuthEngine:
    tokens = make_tokens()
    return AuthEngine(MemoryStore(tokens), FakeAuthority(tokens))


async def started() -> AuthEngine:
    engine = an_engine()
    await engine.start()
    return engine


def state_of(engine: AuthEngine) -> tuple[Session, object, Policy]:
    return engine.session, engine.parent, engine.policy


@pytest.mark.parametrize("name", COROUTINES)
async def test_before_the_start_and_after_the_end_a_method_says_so(name: str) -> None:
    engine = an_engine()
    before = state_of(engine)
    with pytest.raises(EngineNotStarted, match="not started"):
        await COROUTINES[name](engine)
    assert state_of(engine) == before
    await engine.start()
    await engine.close()
    before = state_of(engine)
    with pytest.raises(EngineClosed, match="make a new one"):
        await COROUTINES[name](engine)
    assert state_of(engine) == before


@pytest.mark.parametrize("name", [*COROUTINES, *CHANGES])
def test_in_another_event_loop_or_thread_a_method_says_so(name: str) -> None:
    """The first event loop runs meanwhile, in this thread: without the check, most of the calls would wait for ever."""

    async def use(engine: AuthEngine) -> None:
        if name in COROUTINES:
            await COROUTINES[name](engine)
        else:
            CHANGES[name](engine)

    async def main() -> None:
        engine = await started()
        before = state_of(engine)
        with ThreadPoolExecutor(1) as thread:
            work = asyncio.get_running_loop().run_in_executor(thread, lambda: asyncio.run(use(engine)))
            with pytest.raises(WrongEventLoop, match="and this is another one"):
                await work
        assert state_of(engine) == before
        await use_and_allow_errors(engine)
        await engine.close()

    async def use_and_allow_errors(engine: AuthEngine) -> None:
        try:
            await use(engine)
        except (EngineNotStarted, EngineClosed, WrongEventLoop):
            raise
        except AuthError:
            pass

    asyncio.run(main())


@pytest.mark.parametrize("name", CHANGES)
async def test_a_setting_is_changed_before_the_start_or_in_the_event_loop(name: str) -> None:
    engine = an_engine()
    await asyncio.to_thread(CHANGES[name], engine)
    await engine.start()
    CHANGES[name](engine)
    with pytest.raises(WrongEventLoop, match="no event loop of asyncio runs in this thread"):
        await asyncio.to_thread(CHANGES[name], engine)
    await engine.close()
    with pytest.raises(EngineClosed):
        CHANGES[name](engine)


async def test_everybody_may_read() -> None:
    engine = an_engine()
    for _ in ("new", "open", "closed"):
        for name in ANYWHERE - {"subscribe", "subscribe_trace", "events"}:
            value = await asyncio.to_thread(getattr, engine, name)
            _ = await asyncio.to_thread(value) if callable(value) else value
        await (engine.close() if engine.session.state is AuthState.CHATGPT else engine.start())


@pytest.mark.parametrize("name", ["authorization", "refresh", "close"])
def test_an_engine_of_an_event_loop_that_has_ended(name: str) -> None:
    engine = asyncio.run(started())
    use = {**COROUTINES, "close": lambda engine: engine.close()}[name]
    with pytest.raises(WrongEventLoop, match="in an event loop that has ended: open an engine in each event loop"):
        asyncio.run(use(engine))
    assert engine.session.state is AuthState.CHATGPT
    with pytest.raises(WrongEventLoop, match="has ended"):
        asyncio.run(engine.start())


@pytest.mark.parametrize("name", ["start", "authorization"])
def test_where_no_event_loop_of_asyncio_runs_a_coroutine_says_so(name: str) -> None:
    """In trio, for example: another library runs the coroutine."""
    engine = an_engine() if name == "start" else asyncio.run(started())
    use = {**COROUTINES, "start": lambda engine: engine.start()}[name]
    with pytest.raises(WrongEventLoop, match="no event loop of asyncio runs in this thread"):
        use(engine).send(None)


async def test_a_second_start_is_refused_and_changes_nothing() -> None:
    engine = await started()
    session = engine.session
    with pytest.raises(TransitionRefused):
        await engine.start()
    assert engine.session is session
    assert (await engine.authorization()).generation == session.generation
    await engine.close()
    with pytest.raises(EngineClosed):
        await engine.start()


class SlowStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__(make_tokens())
        self.go = asyncio.Event()

    async def load(self) -> Any:
        await self.go.wait()
        return await super().load()


async def test_while_the_start_goes_on_the_engine_is_not_started() -> None:
    engine = AuthEngine(store := SlowStore(), FakeAuthority())
    starting = asyncio.create_task(engine.start())
    await asyncio.sleep(0)
    with pytest.raises(EngineNotStarted):
        await engine.authorization()
    with pytest.raises(TransitionRefused):
        await engine.start()
    engine.set_policy(Policy())
    store.go.set()
    await starting
    assert await engine.authorization()


async def test_a_start_that_was_cancelled_may_be_tried_again_in_any_event_loop() -> None:
    engine = AuthEngine(store := SlowStore(), FakeAuthority())
    starting = asyncio.create_task(engine.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(EngineNotStarted):
        await engine.authorization()
    store.go.set()

    async def elsewhere() -> AuthState:
        async with engine:
            return engine.session.state

    store.go = asyncio.Event()
    store.go.set()
    assert await asyncio.to_thread(lambda: asyncio.run(elsewhere())) is AuthState.CHATGPT


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_an_engine_that_is_closed_during_its_start_stays_closed(is_cancelled: bool) -> None:
    engine = AuthEngine(store := SlowStore(), FakeAuthority())
    starting = asyncio.create_task(engine.start())
    await asyncio.sleep(0)
    await engine.close()
    if is_cancelled:
        starting.cancel()
    store.go.set()
    with pytest.raises(asyncio.CancelledError if is_cancelled else EngineClosed):
        await starting
    with pytest.raises(EngineClosed):
        await engine.authorization()


async def test_an_engine_that_was_never_started_can_be_closed() -> None:
    engine = an_engine()
    await engine.close()
    await engine.close()
    with pytest.raises(EngineClosed):
        await engine.start()


async def test_background_is_for_the_event_loop_of_an_open_engine() -> None:
    engine = an_engine()
    with pytest.raises(EngineNotStarted):
        engine.background()
    await engine.start()
    with pytest.raises(WrongEventLoop):
        await asyncio.to_thread(engine.background)
    await engine.close()
    with pytest.raises(EngineClosed):
        engine.background()
