"""A small run of each kind of broker_endurance.py. A person runs the large ones."""

from contextlib import ExitStack
from pathlib import Path
from random import Random

from interop.broker_endurance import Field, expiries, kills


def test_each_expiry_of_many_children_costs_one_refresh(binaries: dict[str, Path], tmp_path: Path) -> None:
    with ExitStack() as running:
        figures = expiries(Field(tmp_path, running, binaries), 4, 3)
    assert (figures["refreshes"], figures["refused"]) == (3, 0)


def test_children_work_again_after_the_broker_was_killed(binaries: dict[str, Path], tmp_path: Path) -> None:
    with ExitStack() as running:
        assert kills(Field(tmp_path, running, binaries), 2, 3, Random(1))["kills"] > 0
