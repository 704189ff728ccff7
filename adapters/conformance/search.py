"""Generated histories. hypothesis makes them, and shrinks the ones that fail."""

from collections.abc import Callable, Sequence
from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from authstate.adapters.conformance.actions import Outcome

_FIRST: Final = ("start", "given-chatgpt", "api-key", "external")
_THEN: Final = (
    *("api-key", "external", "log-out", "read", "refresh", "refresh-rejected", "refresh-transient", "limits"),
    *("other-key", "other-login", "other-account", "other-logout", "restart", "kill", "bad-requests", "cancel-unknown"),
)
"""Actions whose result the reference model knows in every state."""
_LONGEST_SHRINK: Final = 60
"""The most histories that are run to shrink one failure."""


class _Failed(Exception):
    """A history failed."""


def search(
    run: Callable[[Sequence[str]], Outcome], known: set[str], *, runs: int, steps: int, start: int
) -> list[Outcome]:
    """Run generated histories, and shrink the first new failure until it is as short as it can be.

    Args:
        run: runs a history.
        known: checks that failed before: a history that fails them is not looked at.
        runs: how many histories are generated.
        steps: the most actions of a history.
        start: the seed: with the same one, the same histories are generated.

    Returns:
        The outcomes, in order. The shortest failure comes last, if there is one.
    """
    outcomes: dict[tuple[str, ...], Outcome] = {}
    failures: list[Outcome] = []
    budget = _LONGEST_SHRINK

    def is_new(outcome: Outcome) -> bool:
        return bool(outcome.failed.keys() - known) and (
            not failures or failures[0].failed.keys() & outcome.failed.keys() > set()
        )

    @seed(start)
    @settings(
        max_examples=runs,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        print_blob=False,
    )
    @given(st.tuples(st.sampled_from(_FIRST), st.lists(st.sampled_from(_THEN), max_size=max(0, steps - 1))))
    def play(drawn: tuple[str, list[str]]) -> None:
        nonlocal budget
        actions = (drawn[0], *drawn[1])
        outcome = outcomes.get(actions)
        if outcome is None:
            if failures:
                budget -= 1
                if budget < 0:
                    return
            outcome = outcomes[actions] = run(actions)
        if is_new(outcome):
            failures.append(outcome)
            raise _Failed

    try:
        play()
    except (_Failed, HypothesisException, ExceptionGroup):
        shortest = min(failures, key=lambda outcome: len(outcome.actions))
        return [*(outcome for outcome in outcomes.values() if outcome not in failures), shortest]
    return list(outcomes.values())
