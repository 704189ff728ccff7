"""The life of an engine: every cell of its table, and every way that an engine can go."""

import pytest

from authstate.engine.flows.engine_life import EngineLife
from authstate.engine.machines.engine_life import ENGINE_LIFE_TABLE, LifeState
from authstate.engine.machines.table import shared_machine
from authstate.engine.model.errors import EngineClosed, TransitionRefused

EXPECTED = {
    "new": {"start": "starting", "close": "closed"},
    "starting": {"started": "open", "start_ended": "new", "close": "closed"},
    "open": {"close": "closed"},
    "closed": {"close": "closed"},
}


@pytest.mark.parametrize("trigger", ENGINE_LIFE_TABLE.triggers)
@pytest.mark.parametrize("state", LifeState)
def test_every_cell_of_the_table(state: LifeState, trigger: str) -> None:
    life = EngineLife()
    life.state = state
    target = EXPECTED[state].get(trigger)
    assert ENGINE_LIFE_TABLE.target(state, trigger) == target
    if target is None:
        with pytest.raises(TransitionRefused):
            shared_machine(ENGINE_LIFE_TABLE).fire(life, trigger)
    else:
        shared_machine(ENGINE_LIFE_TABLE).fire(life, trigger)
    assert life.state == (target or state)


async def test_an_engine_starts_once_and_may_be_closed_twice() -> None:
    life = EngineLife()
    async with life.starting():
        assert life.state == "starting"
        with pytest.raises(TransitionRefused):
            await start(life)
    assert life.state == "open"
    with pytest.raises(TransitionRefused):
        await start(life)
    for _ in range(2):
        life.close()
        assert life.state == "closed"
    with pytest.raises(EngineClosed):
        await start(life)


async def test_a_start_that_fails_may_be_tried_again() -> None:
    life = EngineLife()
    with pytest.raises(OSError):
        async with life.starting():
            raise OSError
    assert life.state == "new"
    await start(life)
    assert life.state == "open"


async def test_an_engine_that_is_closed_during_its_start_stays_closed() -> None:
    life = EngineLife()
    with pytest.raises(EngineClosed):
        async with life.starting():
            life.close()
    assert life.state == "closed"


def test_an_engine_may_be_closed_before_its_start() -> None:
    life = EngineLife()
    life.close()
    assert life.state == "closed"


async def start(life: EngineLife) -> None:
    async with life.starting():
        pass


def test_the_table_has_nothing_else() -> None:
    assert (ENGINE_LIFE_TABLE.states, ENGINE_LIFE_TABLE.initial) == (tuple(EXPECTED), "new")
    assert ENGINE_LIFE_TABLE.triggers == ("start", "started", "start_ended", "close")
