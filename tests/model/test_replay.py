"""What the simulations tell is replayed over the tables: no history is refused, and the mutants are.

`python -m model.replayed 0 20000` in `tests/` replays more histories.
"""

from collections.abc import Callable

import pytest
from model.machines.history import MachinesHistory
from model.machines.mutants import MUTANTS as MACHINES_MUTANTS
from model.machines.mutants import mutated as machines_mutated
from model.replayed import Told, first_refused, replayed
from model.simulation.history import History
from model.simulation.mutants import MUTANTS, mutated

from authstate.adapters.report.replay import RULES

REFUSED_BY = {
    "no lock": "refresh_claim|adopt what replaced it",
    "no reload under the lock": "adopt what replaced it",
    "no shield": "a token that was sent is in doubt",
    "no generation check after a 401": "renew what was refused",
    "no check that the session is the same": "credentials of the state",
    "a spent token may be cancelled": "a token that was sent is in doubt",
    "used before it is stored": "store before use",
    "a dead token is sent again": "refresh_claim",
    "no claim": "claim before sending",
    "no look at the claim": "refresh_claim",
    "a doubt is sent at once": "wait while the access token is usable",
    "a lost answer is repeated": "repeat a lost answer once",
}
"""The table or the rule that refuses a mutant of the processes of one home."""
NOT_SEEN = {
    "rename before fsync": "a journal tells what a program did, and not what its disk kept",
    "no fsync of the file": "a journal tells what a program did, and not what its disk kept",
    "no fsync of the folder": "a journal tells what a program did, and not what its disk kept",
    "write in place": "a journal tells what a program did, and not what a reader of the file saw meanwhile",
    "an ended lease goes on": "a lease changes nothing in the login, so it has no lines",
    "a lease yields tokens of whoever is signed in": "a lease changes nothing in the login, so it has no lines",
}
"""What a journal cannot tell of these, and why. The simulation sees it in the files and in the answers."""
REFUSED_ON_MACHINES_BY = {
    "no claim": "claim before sending",
    "no compare-and-swap": "adopt what replaced it",
    "settle whatever the generation": "adopt what replaced it",
    "a doubt is sent at once": "wait while the access token is usable",
    "a token is dead by what was read long ago": "adopt what replaced it",
}
NOT_SEEN_ON_MACHINES = {
    "no hold": "a late holder looks the same: how long ago it took the row, only the clock of the database tells",
    "no deadline": "a late holder looks the same: how long ago it took the row, only the clock of the database tells",
}
FIRST_SEEDS = {
    "no lock": 20,
    "no shield": 14,
    "no generation check after a 401": 12,
    "no check that the session is the same": 44,
    "no compare-and-swap": 15,
    "settle whatever the generation": 15,
    "a token is dead by what was read long ago": 92,
}
"""Where to begin, so that a test is short. 0 for the others."""
SEEDS = 300


def seeds_of(name: str) -> range:
    first = FIRST_SEEDS.get(name, 0)
    return range(first, first + SEEDS)


@pytest.mark.parametrize("kind", [History, MachinesHistory])
def test_no_history_is_refused(kind: Callable[[int], Told]) -> None:
    result = replayed(range(9_000, 9_150), kind)
    assert result.failures == []
    assert result.counts["lines"] > 3_000


@pytest.mark.parametrize("name", REFUSED_BY)
def test_a_mutant_is_refused(name: str) -> None:
    with mutated(name):
        rule = first_refused(History, seeds_of(name), REFUSED_BY[name].split("|"))
    assert rule is not None, f"{name}: no history was refused by {REFUSED_BY[name]}"


@pytest.mark.parametrize("name", REFUSED_ON_MACHINES_BY)
def test_a_mutant_of_machines_is_refused(name: str) -> None:
    with machines_mutated(name):
        rule = first_refused(MachinesHistory, seeds_of(name), REFUSED_ON_MACHINES_BY[name].split("|"))
    assert rule is not None, f"{name}: no history was refused by {REFUSED_ON_MACHINES_BY[name]}"


def test_each_mutant_is_refused_or_has_a_reason() -> None:
    assert {*REFUSED_BY, *NOT_SEEN} == set(MUTANTS)
    assert {*REFUSED_ON_MACHINES_BY, *NOT_SEEN_ON_MACHINES} == set(MACHINES_MUTANTS)
    assert not set(REFUSED_BY) & set(NOT_SEEN) and not set(REFUSED_ON_MACHINES_BY) & set(NOT_SEEN_ON_MACHINES)


def test_each_rule_refuses_a_mutant() -> None:
    named = {rule for rules in (*REFUSED_BY.values(), *REFUSED_ON_MACHINES_BY.values()) for rule in rules.split("|")}
    assert named == {*RULES, "refresh_claim"}
