"""The mutation check: what it changes in a module, and what it leaves alone."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from mutation.operators import lines_of_use, mutants_of
from mutation.patch import fits, module_of
from support.paths import REPO

pytestmark = pytest.mark.uncounted

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
    repo = REPO
    mutants = list(mutants_of(repo / "engine" / "machines" / "refresh_claim.py", repo))
    assert len({mutant.name for mutant in mutants}) == len(mutants) > 20
    for mutant in mutants:
        compile(mutant.source, mutant.name, "exec")


def test_a_file_of_the_repository_is_imported_by_this_name() -> None:
    repo = Path("/repo")
    assert module_of(repo / "adapters" / "stores" / "disk.py", repo) == "authstate.adapters.stores.disk"
    assert module_of(repo / "engine" / "__init__.py", repo) == "authstate.engine"
    assert module_of(repo / "adapters" / "package" / "testing.py", repo) == "authstate.testing"
    assert module_of(repo / "adapters" / "package" / "__init__.py", repo) == "authstate"


def test_a_change_of_what_is_called_is_told_from_one_of_what_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "keeper.py"
    path.write_text(MODULE + "\n\ndef wait(seconds: int = 5) -> object:\n    return lambda: seconds + 1\n", "utf-8")
    called = {mutant.name.partition("::")[2]: mutant.is_in_function for mutant in mutants_of(path, tmp_path)}
    assert called["Keeper.keep::boolean::True -> False"]
    assert called["wait::arithmetic::seconds + 1 -> seconds - 1"]
    assert not called["module::number::3 -> 4"]
    assert not called["wait::number::5 -> 6"]


def test_a_function_that_takes_other_names_from_around_it_is_imported_anew(tmp_path: Path) -> None:
    path = tmp_path / "outer.py"
    path.write_text("def outer(a, b):\n    def inner():\n        return a if b else 0\n    return inner\n", "utf-8")
    fitting = {mutant.name.partition("::")[2]: fits(mutant) for mutant in mutants_of(path, tmp_path)}
    assert fitting["outer.inner::number::0 -> 1"]
    assert not fitting["outer.inner::return::return a if b else 0 -> return None"]


EXCHANGE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mutation.operators import lines_of_use, mutants_of
from mutation.patch import exchange, install
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState
repo = Path(sys.argv[2])
def change(file, name, do):
    mutant = next(mutant for mutant in mutants_of(repo / file, repo) if name in mutant.name)
    do(mutant, repo)
doubt = RefreshClaim("ab", RefreshClaimState.CLAIMED)
assert doubt.is_in_doubt
change("engine/machines/refresh_claim.py", "is_in_doubt::compare", exchange)
assert not doubt.is_in_doubt
assert "authstate.engine.model.policy" not in sys.modules
change("engine/model/policy.py", "Policy::boolean", install)
from authstate.engine.model.policy import Policy
assert not Policy.__struct_config__.frozen
"""


def test_a_mutant_is_put_into_functions_that_are_loaded_or_into_the_import() -> None:
    repo = REPO
    subprocess.run([sys.executable, "-c", EXCHANGE, str(repo / "tests"), str(repo)], check=True, timeout=250)


TRIALS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mutation.operators import Mutant
from mutation.trial import Pool, Trial, run_cold
repo = Path(sys.argv[2])
path = repo / "engine/model/errors.py"
source = path.read_text("utf-8")
fates = {}
pool = Pool(1, lambda outcome: fates.update({outcome.mutant.name: str(outcome.fate)}))
tests = ["tests/unit/engine/model/test_errors.py"]
texts = {"control": source, "changed": source.replace("class EngineClosed(", "class EngineClosed_(")}
run_cold([Trial(Mutant(name, path, 1, 1, text, True), tests, False) for name, text in texts.items()], repo, pool)
assert fates == {"control": "survived", "changed": "killed"}, fates
"""


def test_the_tests_of_a_trial_import_the_mutant_and_pass_without_one() -> None:
    subprocess.run([sys.executable, "-c", TRIALS, str(REPO / "tests"), str(REPO)], check=True, timeout=250)


@pytest.mark.parametrize(("line", "lines"), [(1, {1, 6}), (2, {2, 5}), (4, {5, 6}), (9, {9})])
def test_the_tests_of_a_definition_are_those_of_the_lines_that_use_it(line: int, lines: set[int]) -> None:
    source = "LIMIT = 3\nSIZE: int = 4\n\ndef wait(seconds=1):\n    sleep(SIZE)\n    return LIMIT\n\n\nother = 5\n"
    assert lines_of_use(source, line) == lines


def test_every_equivalent_mutant_is_one_that_there_is_and_says_why() -> None:
    repo = REPO
    entries = tomllib.loads((repo / "tests/mutation/equivalent.toml").read_text("utf-8"))["equivalent"]
    files = {entry["mutant"].partition("::")[0] for entry in entries}
    names = {mutant.name for file in files for mutant in mutants_of(repo / file, repo)}
    for entry in entries:
        assert entry["mutant"] in names
        assert len(entry["reason"]) > 40
