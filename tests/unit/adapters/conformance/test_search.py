"""Generated histories are the same with the same seed, and a failure is shrunk."""

from collections.abc import Collection, Sequence

import pytest

from authstate.adapters.conformance.actions import ACTIONS, Ending, Outcome
from authstate.adapters.conformance.scenarios import CELLS, UNREACHABLE, scenarios
from authstate.adapters.conformance.search import search
from authstate.engine.model.states import AuthState

pytestmark = pytest.mark.fast


STATE = AuthState.LOGGED_OUT


class Server:
    """Takes the place of a real server: fails a check if all of these actions are in the history."""

    def __init__(self, *fatal: str, check: str = "logout/nothing-left") -> None:
        self.played: list[tuple[str, ...]] = []
        self._fatal, self._check = set(fatal), check

    def __call__(self, actions: Sequence[str], avoid: Collection[Ending]) -> Outcome:
        done = tuple(name for name in actions if (STATE, name) not in avoid)
        self.played.append(done)
        failed = {self._check: "found"} if self._fatal and self._fatal <= set(done) else {}
        ending = (STATE, max(self._fatal)) if failed else None
        return outcome_of(done, failed, ending)


def outcome_of(actions: Sequence[str], failed: dict[str, str], ending: Ending | None) -> Outcome:
    return Outcome(tuple(actions), frozenset(), failed, frozenset(), (), "", ending=ending)


def test_the_same_seed_makes_the_same_histories() -> None:
    one, same, other = Server(), Server(), Server()
    for server, start in ((one, 7), (same, 7), (other, 8)):
        search(server, [], runs=20, steps=6, start=start)
    assert one.played == same.played != other.played
    assert max(map(len, one.played)) <= 7  # a policy comes first
    assert {name for actions in one.played for name in actions} <= ACTIONS.keys()


def test_a_failure_is_shrunk_to_what_it_needs() -> None:
    outcomes = search(Server("log-out", "kill"), [], runs=200, steps=10, start=0)
    [shortest] = [outcome for outcome in outcomes if outcome.failed]
    assert len(shortest.actions) == 3
    assert {"log-out", "kill"} <= set(shortest.actions)


def test_the_search_goes_on_after_a_failure_without_what_caused_it() -> None:
    server = Server("log-out")
    outcomes = search(server, [], runs=60, steps=6, start=0)
    assert len([outcome for outcome in outcomes if outcome.failed]) == 1
    last = max(index for index, actions in enumerate(server.played) if "log-out" in actions)
    assert len(server.played) - last > 20


def test_what_ended_a_history_before_is_left_out() -> None:
    server = Server("log-out")
    known = [outcome_of(("start", "log-out"), {"logout/nothing-left": "found"}, (STATE, "log-out"))]
    search(server, known, runs=20, steps=6, start=0)
    assert len(server.played) == 20
    assert not [actions for actions in server.played if "log-out" in actions]


def test_shrinking_ends_after_a_number_of_histories() -> None:
    server = Server("log-out", "kill", "refresh")
    outcomes = search(server, [], runs=300, steps=20, start=0)
    played = [{"log-out", "kill", "refresh"} <= set(actions) for actions in server.played]
    assert [outcome for outcome in outcomes if outcome.failed]
    assert sum(played) <= 61


def test_each_fixed_history_consists_of_actions() -> None:
    names = {name for actions in scenarios(slow=True) for name in actions}
    assert names <= ACTIONS.keys()
    assert UNREACHABLE.keys() <= set(CELLS)
