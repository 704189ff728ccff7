"""The life of an engine: every cell of its table."""

import pytest

from authstate.engine.machines.engine_life import ENGINE_LIFE_TABLE, LifeState

EXPECTED = {
    "new": {"start": "starting", "close": "closed"},
    "starting": {"started": "open", "start_ended": "new", "close": "closed"},
    "open": {"close": "closed"},
    "closed": {"close": "closed"},
}


@pytest.mark.parametrize("trigger", ENGINE_LIFE_TABLE.triggers)
@pytest.mark.parametrize("state", LifeState)
def test_every_cell_of_the_table(state: LifeState, trigger: str) -> None:
    assert ENGINE_LIFE_TABLE.target(state, trigger) == EXPECTED[state].get(trigger)


def test_the_table_has_nothing_else() -> None:
    assert (ENGINE_LIFE_TABLE.states, ENGINE_LIFE_TABLE.initial) == (tuple(EXPECTED), "new")
    assert ENGINE_LIFE_TABLE.triggers == ("start", "started", "start_ended", "close")
