"""Events for slow listeners: none blocks the engine, and each learns what it missed."""

import asyncio
import gc
import inspect
from functools import partial
from typing import Any, cast
from unittest.mock import MagicMock, Mock, create_autospec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate.engine.engine import AuthEngine
from authstate.engine.flows.event_streams import MOST_WAITING, EventBuffer, EventStream
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.events import Event, EventsMissed, Listener, StateChanged, Warned
from authstate.engine.model.session import Session
from authstate.engine.model.states import Trigger
from authstate.engine.pool import EnginePool
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_external_tokens, make_tokens

Faults = list[dict[str, Any]]


def make_engine() -> AuthEngine:
    tokens = make_tokens()
    return AuthEngine(MemoryStore(tokens), FakeAuthority(tokens))


async def change(engine: AuthEngine, times: int = 1) -> None:
    """Emit a StateChanged, and two events more, so many times."""
    for number in range(times):
        await engine.use_api_key(ApiKey.parse(f"sk-{number}"))


async def take(events: EventStream, count: int) -> list[Event]:
    return [await anext(events) for _ in range(count)]


async def test_an_iterator_gets_every_event_from_when_it_was_made() -> None:
    async with make_engine() as engine:
        heard: list[Event] = []
        engine.subscribe(heard.append)
        events = engine.events()
        await change(engine, 2)
        assert await take(events, 6) == heard
    assert [event async for event in events] == []


async def test_an_iterator_waits_for_the_next_event() -> None:
    async with make_engine() as engine, engine.events() as events:
        waiting = [asyncio.create_task(anext(events)) for _ in range(2)]
        await asyncio.sleep(0)
        await change(engine)
        assert len({type(event) for event in await asyncio.gather(*waiting)}) == 2


async def test_it_ends_with_the_engine_after_what_waits() -> None:
    engine = make_engine()
    before = engine.events()
    async with engine:
        idle = engine.events()
        end = asyncio.create_task(anext(idle, None))
        await asyncio.sleep(0)
    assert [type(event) for event in [event async for event in before]] == [StateChanged]
    assert await end is None
    assert [event async for event in engine.events()] == []


async def test_it_ends_at_once_when_it_is_closed() -> None:
    async with make_engine() as engine:
        events = engine.events()
        await change(engine)
        await events.aclose()
        await events.aclose()
        await change(engine)
        assert [event async for event in events] == []
        waiting = engine.events()
        end = asyncio.create_task(anext(waiting, None))
        await asyncio.sleep(0)
        await waiting.aclose()
        assert await end is None


async def test_a_cancelled_wait_loses_nothing() -> None:
    async with make_engine() as engine:
        events = engine.events()
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0)
        await change(engine)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert isinstance(await anext(events), StateChanged)


async def test_a_dropped_iterator_is_not_kept() -> None:
    async with make_engine() as engine:
        engine.events()
        gc.collect()
        assert not engine._flows.streams.are_open


async def test_a_slow_iterator_learns_what_it_missed() -> None:
    async with make_engine() as engine:
        events = engine.events(limit=3)
        await change(engine, 4)
        heard = await take(events, 4)
        assert isinstance(heard[0], EventsMissed)
        assert heard[0].count == 9
        assert heard[0].session.generation == 4
        assert isinstance(heard[1], StateChanged) and heard[1].current is engine.session
        assert heard[1].previous is heard[0].session
        await change(engine)
        assert isinstance(await anext(events), StateChanged)


def test_a_buffer_has_room() -> None:
    with pytest.raises(ValueError, match="at least one event"):
        make_engine().events(limit=0)


@given(st.integers(1, 4), st.lists(st.sampled_from(["change", "warn", "take"]), max_size=40))
def test_whoever_applies_the_events_arrives_at_the_current_session(limit: int, steps: list[str]) -> None:
    current = known = Session()
    buffer = EventBuffer(current, limit)
    put = taken = missed = 0

    def apply(event: Event) -> None:
        nonlocal known, taken, missed
        if isinstance(event, EventsMissed):
            assert event.count > 0
            assert event.session.generation >= known.generation
            missed, known = missed + event.count, event.session
            return
        taken += 1
        if isinstance(event, StateChanged):
            assert event.previous is known
            known = event.current

    for step in steps:
        if step == "take":
            if (event := buffer.take()) is not None:
                apply(event)
            continue
        if step == "change":
            previous, current = current, Session(generation=current.generation + 1)
            buffer.put(StateChanged(Trigger.LOG_OUT, previous, current))
        else:
            buffer.put(Warned("code", "message"))
        put += 1
    while (event := buffer.take()) is not None:
        apply(event)
    assert known is current
    assert put == taken + missed


# Coroutine functions


class SlowListener:
    """Waits at its gate with each event."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.gate = asyncio.Event()

    async def __call__(self, event: Event) -> None:
        await self.gate.wait()
        self.heard.append(event)


async def test_a_coroutine_function_gets_every_event_in_order() -> None:
    heard: list[Event] = []
    slow = SlowListener()
    engine = make_engine()
    engine.subscribe(slow)
    engine.subscribe(heard.append)
    async with engine:
        await change(engine, 3)
        assert slow.heard == [] and len(heard) == 10
        slow.gate.set()
    assert slow.heard == heard


class Callable_:
    async def __call__(self, event: Event) -> None:
        raise NotImplementedError


async def test_every_kind_of_coroutine_function_is_known(faults: Faults) -> None:
    async def with_more(name: str, event: Event) -> None:
        raise NotImplementedError

    async with make_engine() as engine:
        engine.subscribe(Callable_())
        engine.subscribe(Callable_().__call__)
        engine.subscribe(partial(with_more, "name"))
        await engine.log_out()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [type(fault["exception"]) for fault in faults] == [NotImplementedError] * 6


def plain(event: Event) -> None:
    raise NotImplementedError


@pytest.mark.parametrize("listener", [Mock(spec=plain), MagicMock(spec=plain), create_autospec(plain)])
async def test_the_mock_of_a_plain_function_is_called_at_once(listener: Any) -> None:
    async with make_engine() as engine:
        engine.subscribe(listener)
        await change(engine)
        assert len(listener.mock_calls) > 0


async def test_a_function_that_returns_a_coroutine_is_reported(faults: Faults) -> None:
    made: list[Any] = []

    async def work() -> None:
        raise AssertionError("nobody runs this")

    def listener(event: Event) -> object:
        made.append(work())
        return made[-1]

    async with make_engine() as engine:
        engine.subscribe(cast("Listener", listener))
        await change(engine)
    assert len(faults) == 3
    assert "subscribe the coroutine function itself" in str(faults[0]["exception"])
    assert [inspect.getcoroutinestate(one) for one in made] == ["CORO_CLOSED"] * 3


async def test_a_listener_that_cancels_itself_gets_the_next_event() -> None:
    heard: list[Event] = []

    async def listener(event: Event) -> None:
        heard.append(event)
        raise asyncio.CancelledError

    async with make_engine() as engine:
        engine.subscribe(listener)
        for number in range(3):
            engine.set_policy(engine.policy)
            await engine.use_external_tokens(make_external_tokens(user_id=f"user-{number}"))
            for _ in range(3):
                await asyncio.sleep(0)
    assert len(heard) >= 3


async def test_a_subscription_ends_but_not_the_call_that_runs() -> None:
    slow = SlowListener()
    async with make_engine() as engine:
        end = engine.subscribe(slow)
        await change(engine)
        await asyncio.sleep(0)
        end()
        end()
        await change(engine)
        slow.gate.set()
    assert len(slow.heard) == 1


async def test_a_slow_coroutine_function_learns_what_it_missed() -> None:
    slow = SlowListener()
    async with make_engine() as engine:
        engine.subscribe(slow)
        await change(engine)
        await asyncio.sleep(0)  # it has the first one
        await change(engine, 100)
        slow.gate.set()
    assert len(slow.heard) == MOST_WAITING + 2
    assert isinstance(slow.heard[1], EventsMissed)


async def test_the_end_cancels_a_call_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authstate.engine.flows.event_streams._LAST_CALLS", 0.0)
    ends: list[str] = []

    async def listener(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(type(event).__name__)

    async with make_engine() as engine:
        engine.subscribe(listener)
        await change(engine)
        await asyncio.sleep(0)
    assert ends == ["StateChanged"]
    engine.subscribe(listener)
    assert not engine._flows.streams.are_open


async def test_a_listener_may_use_and_close_the_engine() -> None:
    engine = make_engine()
    closed = asyncio.Event()

    async def listener(event: Event) -> None:
        await engine.authorization()
        await engine.close()
        closed.set()

    engine.subscribe(listener)
    await engine.start()
    await closed.wait()


async def test_a_cancelled_close_ends_the_calls_all_the_same() -> None:
    engine = make_engine()
    ended = asyncio.Event()

    async def listener(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    engine.subscribe(listener)
    await engine.start()
    await asyncio.sleep(0)
    closing = asyncio.create_task(engine.close())
    for _ in range(5):
        await asyncio.sleep(0)
    closing.cancel()
    await ended.wait()
    await asyncio.wait((closing,))


async def test_a_pool_refuses_a_coroutine_function() -> None:
    async def listener(name: str, event: Event) -> None:
        raise NotImplementedError

    async with EnginePool[str](lambda name: make_engine()) as pool:
        with pytest.raises(TypeError, match="which nobody would run here"):
            pool.subscribe(cast("Any", listener))


async def test_the_session_that_a_parent_replaced_is_told_too() -> None:
    async with make_engine() as engine:
        events = engine.events()
        await engine.use_external_tokens(make_external_tokens())
        changed = await anext(events)
        assert isinstance(changed, StateChanged) and changed.trigger is Trigger.USE_EXTERNAL_TOKENS


def test_listening_may_begin_before_the_event_loop_runs() -> None:
    engine = AuthEngine(MemoryStore(tokens := make_tokens()), FakeAuthority(tokens), clock=ManualClock())
    heard: list[Event] = []

    async def listener(event: Event) -> None:
        heard.append(event)

    engine.subscribe(listener)
    events = engine.events()

    async def main() -> None:
        async with engine:
            assert isinstance(await anext(events), StateChanged)

    asyncio.run(main())
    assert len(heard) == 1
