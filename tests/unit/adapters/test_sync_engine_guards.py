"""`SyncAuthEngine` where something is interrupted or comes late: its start, a body, a setting, a subscription."""

import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from authstate import (
    AuthEngine,
    AuthState,
    EngineClosed,
    EngineNotStarted,
    Event,
    Policy,
    SyncAuthEngine,
    TokenExpiring,
    TransitionRefused,
)
from authstate.testing import FakeAuthority, FakeParent, MemoryStore, make_tokens


def make_engine(expires_in: float = 3600.0) -> SyncAuthEngine:
    tokens = make_tokens(expires_in=expires_in)
    return SyncAuthEngine(AuthEngine(MemoryStore(tokens), FakeAuthority(tokens)))


@pytest.fixture
def engine() -> Iterator[SyncAuthEngine]:
    with make_engine() as made:
        yield made


def test_a_start_that_ctrl_c_interrupts_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    engine = make_engine()
    monkeypatch.setattr(engine, "_call", interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.start()
    assert not engine._thread.is_running
    monkeypatch.undo()
    with engine:
        assert engine.session.state is AuthState.CHATGPT


def test_a_second_start_leaves_the_thread_of_the_first(engine: SyncAuthEngine) -> None:
    with pytest.raises(TransitionRefused):
        engine.start()
    assert engine.reload() is False


def test_a_background_ends_when_its_body_raises(engine: SyncAuthEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    make = engine._engine.background

    def note(**options: Any) -> Any:
        begun.append(make(**options))
        return begun[-1]

    monkeypatch.setattr(engine._engine, "background", note)
    with pytest.raises(ZeroDivisionError), engine.background():
        assert begun[0]._task is not None
        raise ZeroDivisionError
    assert begun[0]._task is None


def test_a_coroutine_function_that_is_subscribed_late_gets_what_only_a_timer_tells() -> None:
    """The timer is of the event loop, so the subscription begins there."""
    heard: list[Event] = []
    told = threading.Event()

    async def listener(event: Event) -> None:
        heard.append(event)
        told.set()

    with make_engine(expires_in=100.0) as engine:
        engine.subscribe(listener)
        assert told.wait(30)
    assert isinstance(heard[0], TokenExpiring)


def test_settings_of_an_engine_that_was_closed_before_its_start_stay() -> None:
    engine = make_engine()
    engine.close()
    policy = engine.policy
    with pytest.raises(EngineClosed):
        engine.set_policy(Policy(forced_workspaces=("org-9",)))
    with pytest.raises(EngineClosed):
        engine.parent = FakeParent()
    assert engine.policy is policy and engine.parent is None


def test_an_error_of_the_life_does_not_show_how_the_thread_told_of_it() -> None:
    with pytest.raises(EngineNotStarted) as raised:
        make_engine().reload()
    assert raised.value.__suppress_context__ and raised.value.__cause__ is None
