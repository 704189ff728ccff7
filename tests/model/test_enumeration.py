"""No history of a small scope breaks a promise: all orders of all steps, with a mishap at any of them.

small_scope.py says what a step is, and enumeration.py why histories that reach the same point are continued only once.
`python -m model.simulation every` in `tests/` does the same with one more caller, which takes ten times as long.
"""

from collections.abc import Callable
from contextvars import Context
from functools import cache, wraps
from random import Random

import pytest
from model.simulation.campaign import SMALLER_SCOPES, enumerated, write_figures
from model.simulation.enumeration import ByPast, Enumeration, Figures
from model.simulation.ledger import LOSSES, Fate, Violation
from model.simulation.mutants import mutated
from model.simulation.small_scope import MISHAPS, NAMES, Choice, Scope, SmallScope, choices

ONE_EACH = (("authorize",), ("authorize",))
SMALLER = Scope(calls=ONE_EACH)
MAY_BE_LOST = {
    *(f"lost: {fate}" for fate in (Fate.CRASHED_BEFORE_ANSWER, Fate.CRASHED_BEFORE_RENAME, Fate.POWER_BEFORE_SYNC)),
    *("histories that end signed in", "histories that end with a lost login"),
}
NOTICED = {
    "no lock": (Scope(), "refresh token used twice"),
    "no reload under the lock": (
        Scope(),
        "refresh token used twice|and it is stored",
    ),  # the claim keeps it from being sent
    "no shield": (Scope(calls=(("authorize", "refresh"), ()), mishaps=("cancel p1",)), "was cancelled|used twice"),
    "rename before fsync": (Scope(), "not whole"),
    "no fsync of the file": (Scope(), "not whole"),
    "no fsync of the folder": (Scope(), "before a power cut would keep it"),
    "write in place": (Scope(), "not whole"),
    "a spent token may be cancelled": (Scope(calls=ONE_EACH, mishaps=("terminate p1",)), "in order"),
    "used before it is stored": (Scope(), "never on the disk"),
    "a dead token is sent again": (Scope(), "refused for good before"),
}


def alone(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in an empty context. Otherwise each task would keep the context variables of the test runner alive."""

    @wraps(test)
    def in_an_empty_context(**arguments: object) -> None:
        Context().run(test, **arguments)

    return in_an_empty_context


@pytest.mark.timeout(600)
def test_every_history_keeps_the_promises(capsys: pytest.CaptureFixture[str]) -> None:
    found = enumerated(SMALLER_SCOPES)
    with capsys.disabled():
        print()
        write_figures("enumeration", {name: figures.described() for name, figures in found.items()})
    assert set(found) == set(SMALLER_SCOPES)
    crashed, ended, cancelled = found.values()
    assert crashed.interleavings > 10**14
    assert crashed.mishap_points > 50_000
    assert set(crashed.ends) == MAY_BE_LOST
    assert all(crashed.ends.values())
    assert set(ended.ends) - MAY_BE_LOST == {f"lost: {Fate.GRACE_RAN_OUT}"}
    assert cancelled.ends["histories that end with a lost login"] == 0
    assert not {what for figures in found.values() for what in figures.ends} & {f"lost: {fate}" for fate in Fate} - {
        f"lost: {fate}" for fate in LOSSES
    }


@cache
def smaller() -> tuple[Enumeration, Figures]:
    """Enumerate the smaller scope, once for all tests below."""
    enumeration = Enumeration(SMALLER)
    return enumeration, enumeration.run()


@alone
def test_two_ways_to_tell_processes_apart_count_the_same_histories() -> None:
    (_, by_memory), by_past = smaller(), ByPast(SMALLER).run()
    assert by_memory.interleavings == by_past.interleavings > 10**9
    assert by_memory.with_a_mishap == by_past.with_a_mishap
    assert by_memory.points_after < by_past.points_after, "the memory tells no two pasts alike"


@alone
def test_random_histories_meet_only_points_that_were_enumerated() -> None:
    known = smaller()[0].points()
    met = set()
    random = Random(4)
    for _ in range(300):
        world = SmallScope(SMALLER)
        world.take(Choice("call", NAMES[0]))
        while True:
            point = (world.shared(), tuple(map(world.local, NAMES)))
            assert point in known
            met.add(point)
            open_ = list(choices(*point))
            calm = [one for one in open_ if one.kind not in MISHAPS]
            choice = random.choice(calm if calm and random.random() < 0.9 else open_)  # most mishaps come late
            world.take(choice)
            if choice.kind == "close":
                break
        world.close()
    assert len(met) > len(known) / 10, f"they met too little to prove anything: {len(met)} of {len(known)}"


@pytest.mark.uncounted
@pytest.mark.parametrize("name", NOTICED)
@alone
def test_the_enumeration_notices(name: str) -> None:
    scope, expected = NOTICED[name]
    with mutated(name), pytest.raises(Violation) as found:
        Enumeration(scope).run()
    broken, table, *timeline = str(found.value).splitlines()
    assert any(part in broken for part in expected.split("|")), broken
    assert table.split() == ["step", "time", "process", "what"]
    assert len(timeline) > 10
