"""The mutation check: what it changes in a module, and what it leaves alone."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from mutation.operators import mutants_of
from mutation.trial import module_of

MODULE = '''
"""A docstring."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

LIMIT: int = 3

class Keeper:
    def keep(self, number: int) -> bool:
        """It is kept."""
        if number < LIMIT and not self.full:
            self.number = number
            return True
        with self.lock:
            self.drop()
        assert number
        return False
'''


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    path = tmp_path / "engine" / "keeper.py"
    path.parent.mkdir()
    path.write_text(MODULE, encoding="utf-8")
    return [mutant.name.partition("::")[2] for mutant in mutants_of(path, tmp_path)]


@pytest.mark.parametrize(
    "name",
    [
        "module::number::3 -> 4",
        "Keeper.keep::compare::number < LIMIT -> number <= LIMIT",
        "Keeper.keep::and_or::number < LIMIT and (not self.full) -> number < LIMIT or not self.full",
        "Keeper.keep::not::not self.full -> self.full",
        "Keeper.keep::statement::self.number = number -> pass",
        "Keeper.keep::return::return True -> return None",
        "Keeper.keep::boolean::True -> False",
        "Keeper.keep::context::with self.lock: self.drop() -> its body alone",
        "Keeper.keep::statement::self.drop() -> pass",
    ],
)
def test_what_is_changed(names: list[str], name: str) -> None:
    assert name in names


def test_what_has_no_behaviour_is_left_alone(names: list[str]) -> None:
    assert not [name for name in names if "docstring" in name or "TYPE_CHECKING" in name or "assert" in name]


def test_every_mutant_has_a_name_of_its_own_and_is_python() -> None:
    repo = Path(__file__).parents[2]
    mutants = list(mutants_of(repo / "engine" / "claims.py", repo))
    assert len({mutant.name for mutant in mutants}) == len(mutants) > 20
    for mutant in mutants:
        compile(mutant.source, mutant.name, "exec")


def test_a_file_of_the_repository_is_imported_by_this_name() -> None:
    repo = Path("/repo")
    assert module_of(repo / "adapters" / "stores" / "disk.py", repo) == "authstate.adapters.stores.disk"
    assert module_of(repo / "engine" / "__init__.py", repo) == "authstate.engine"
