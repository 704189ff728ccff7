"""Tests the simulation itself: an engine without one of its guarantees fails within a thousand seeds."""

from typing import NamedTuple

import pytest
from model.simulation.campaign import play
from model.simulation.ledger import Violation
from model.simulation.mutants import MUTANTS, mutated

SEEDS = range(1_000)
NOTICED_BY = {
    "no lock": "refresh token used twice|came back|temporary files",
    "no reload under the lock": "refresh token used twice|came back|signed out or replaced|and it is stored",
    "no shield": "was cancelled|no crash explains|refresh token used twice|in order",
    "rename before fsync": "not whole",
    "no fsync of the file": "not whole",
    "no fsync of the folder": "before a power cut would keep it",
    "write in place": "not whole",
    "no generation check after a 401": "nobody needs newer tokens",
    "no check that the session is the same": "in the place of the parent's|signed in again|nobody needs newer tokens",
    "a spent token may be cancelled": "refresh token used twice|in order|no crash explains|signed out or replaced",
    "used before it is stored": "never on the disk",
    "a dead token is sent again": "refused for good before|forgets that",
    "no claim": "which nobody claimed",
    "no look at the claim": "forgets that|its access token is usable|refused for good before",
    "a doubt is sent at once": "its access token is usable",
    "an ended lease goes on": "to a lease that had ended",
    "a lease yields tokens of whoever is signed in": "gives a child of",
    "a lost answer is repeated": "a second time after a lost answer",
}


class Found(NamedTuple):
    seed: int
    why: str


def first_failure(name: str) -> Found | None:
    """Play histories until one breaks the promise that this guarantee keeps. Others may break before it."""
    with mutated(name):
        for seed in SEEDS:
            try:
                play(seed)
            except Violation as violation:
                why = str(violation).splitlines()[0]
                if any(expected in why for expected in NOTICED_BY[name].split("|")):
                    return Found(seed, why)
    return None


@pytest.mark.uncounted
@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_notices(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = first_failure(name)
    assert found is not None, f"{name}: a thousand histories, and none broke the promise: {NOTICED_BY[name]}"
    with capsys.disabled():
        print(f"\n{name}: seed {found.seed}: {found.why}")


def test_without_a_mutant_the_same_seeds_are_quiet() -> None:
    assert [play(seed).ledger.violations for seed in range(50)] == [[]] * 50
