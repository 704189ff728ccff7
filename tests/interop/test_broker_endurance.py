"""A small run of each kind of broker_endurance.py. A person runs the large ones."""

from contextlib import ExitStack
from pathlib import Path
from random import Random

from interop.broker_endurance import Field, expiries, kills
from support.real_parts import RealParts


def test_each_expiry_of_many_children_costs_one_refresh(real_parts: RealParts, tmp_path: Path) -> None:
    with ExitStack() as running:
        figures = expiries(Field(tmp_path, running), 4, 3)
    assert (figures["refreshes"], figures["refused"]) == (3, 0)


def test_children_work_again_after_the_broker_was_killed(real_parts: RealParts, tmp_path: Path) -> None:
    with ExitStack() as running:
        assert kills(Field(tmp_path, running), 2, 3, Random(1))["kills"] > 0
