"""The exported tables in XState itself, and the paths that XState finds in the running machines."""

from pathlib import Path
from typing import Any

import pytest
from support.real_parts import RealParts
from support.running_machines import MACHINES, refusal_of
from support.xstate import read_machines

from authstate.adapters.cli.main import main
from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.engine.machines.table import Table

pytestmark = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


@pytest.fixture(scope="module")
def read(real_parts: RealParts, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What XState says about each exported machine."""
    folder: Path = tmp_path_factory.mktemp("xstate")
    command = real_parts.xstate()
    assert main(["diagram", "--xstate", str(folder)]) == 0
    return read_machines(command, folder)


def test_each_cell_leads_where_the_running_machine_goes(table: Table, read: dict[str, Any]) -> None:
    cells = read[table.name]["cells"]
    assert {state: set(row) for state, row in cells.items()} == {state: set(table.triggers) for state in table.states}
    for state, row in cells.items():
        for trigger, answers in row.items():
            for answer, target in answers.items():
                machine = MACHINES[table.name]()
                machine.state = state
                error = refusal_of(machine, trigger, agrees=answer == "agrees")
                assert (error is None, machine.state) == (target is not None, target or state), f"{state} {trigger}"
                if answer == "agrees" and target is None:
                    assert error == TABLE_WORDS[table.name].refusal(state, trigger)


def test_the_machine_walks_every_path_of_xstate(table: Table, read: dict[str, Any]) -> None:
    paths = read[table.name]["paths"]
    assert {path[-1]["state"] for path in paths if path} | {table.initial} == set(table.states)
    for path in paths:
        machine = MACHINES[table.name]()
        assert machine.state == table.initial
        for step in path:
            assert refusal_of(machine, step["event"], agrees=step["agrees"]) is None
            assert machine.state == step["state"], path
