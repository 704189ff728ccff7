"""A short version of the endurance run that docs/reliability.md describes."""

import pytest
from model.endurance import Endurance


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "auth.json"])
def test_engines_that_are_never_replaced(on_disk: bool) -> None:
    endurance = Endurance(seed=1, on_disk=on_disk)
    endurance.run(3_000)
    assert all(engine.generation > 100 for engine in endurance.machine.models)
    endurance.close()
