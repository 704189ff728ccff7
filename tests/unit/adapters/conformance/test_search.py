"""Generated histories are the same with the same seed, and a failure is shrunk."""

from collections.abc import Sequence

import pytest

from authstate.adapters.conformance.actions import ACTIONS, Outcome
from authstate.adapters.conformance.scenarios import CELLS, UNREACHABLE, scenarios
from authstate.adapters.conformance.search import search

pytestmark = pytest.mark.fast


class Server:
    """Takes the place of a real server: fails a check if all of these actions are in the history."""

    def __init__(self, *fatal: str, check: str = "logout/nothing-left") -> None:
        self.played: list[tuple[str, ...]] = []
        self._fatal, self._check = set(fatal), check

    def __call__(self, actions: Sequence[str]) -> Outcome:
        self.played.append(tuple(actions))
        failed = {self._check: "found"} if self._fatal and self._fatal <= set(actions) else {}
        return Outcome(tuple(actions), frozenset(), failed, frozenset(), (), "")


def test_the_same_seed_makes_the_same_histories() -> None:
    one, same, other = Server(), Server(), Server()
    for server, start in ((one, 7), (same, 7), (other, 8)):
        search(server, set(), runs=20, steps=6, start=start)
    assert one.played == same.played != other.played
    assert max(map(len, one.played)) <= 6
    assert {name for actions in one.played for name in actions} <= ACTIONS.keys()


def test_a_failure_is_shrunk_to_what_it_needs() -> None:
    *others, shortest = search(Server("log-out", "kill"), set(), runs=200, steps=10, start=0)
    assert shortest.failed and len(shortest.actions) == 3
    assert {"log-out", "kill"} <= set(shortest.actions)
    assert all(not outcome.failed for outcome in others)


def test_a_failure_that_is_known_is_not_looked_at_again() -> None:
    server = Server("log-out")
    search(server, {"logout/nothing-left"}, runs=20, steps=6, start=0)
    assert len(server.played) <= 20


def test_shrinking_ends_after_a_number_of_histories() -> None:
    server = Server("log-out", "kill", "refresh")
    outcomes = search(server, set(), runs=300, steps=20, start=0)
    first = next(index for index, actions in enumerate(server.played) if {"log-out", "kill", "refresh"} <= set(actions))
    assert outcomes[-1].failed
    assert len(server.played) - first <= 61


def test_each_fixed_history_consists_of_actions() -> None:
    names = {name for actions in scenarios(slow=True) for name in actions}
    assert names <= ACTIONS.keys()
    assert UNREACHABLE.keys() <= set(CELLS)
