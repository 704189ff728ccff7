"""Generated histories. hypothesis makes them, and shrinks the ones that fail."""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from authstate.adapters.conformance.actions import Ending, Outcome

_POLICIES: Final = ((), (), (), ("forced-workspace",), ("forced-chatgpt",), ("forced-api",))
"""What config.toml forces at first. Mostly nothing: a policy refuses much of what follows."""
_FIRST: Final = ("start", "given-chatgpt")
_THEN: Final = (
    *("api-key", "external", "external-other-account", "browser", "browser-other-account", "device", "log-out"),
    *("browser-declined", "browser-cancelled", "cancel-unknown", "bad-requests", "blank-key", "restart", "kill"),
    *("read", "refresh", "refresh-rejected", "refresh-transient", "limits", "limits-after-401", "limits-always-401"),
    *("limits-401-rejected", "limits-401-transient", "limits-401-reloaded", "parent-refuses", "parent-other-workspace"),
    *("other-key", "other-login", "other-account", "other-logout"),
    *("forced-workspace", "forced-chatgpt", "forced-api", "unforced"),
)
"""Actions whose result the reference model knows in every state, or that are left out where they are not possible."""
_NOTHING: Final = ""
_LONGEST_SHRINK: Final = 60
"""The most histories that are run to shrink one failure."""

Run = Callable[[Sequence[str], Collection[Ending]], Outcome]


class _Failed(Exception):
    """A history failed."""


def search(run: Run, before: Sequence[Outcome], *, runs: int, steps: int, start: int) -> list[Outcome]:
    """Run generated histories, and shrink each new failure until it is as short as it can be.

    An action that ended a history before is left out in the state in which it did. So a failure does not hide others.

    Args:
        run: runs a history, without the actions to avoid. It may leave out more.
        before: the outcomes of the histories that were run before.
        runs: how many histories are generated, without those that shrink a failure.
        steps: the most actions of a history.
        start: the seed: with the same one, the same histories are generated.

    Returns:
        The outcomes, in order. Of each failure, the shortest history only.
    """
    found: list[Outcome] = []
    left = runs
    while left > 0:
        one = _Search(run, [*before, *found], left, steps)
        found += one.search(start + runs - left)
        left -= max(1, one.generated)
        if one.failure is None:
            break
    return found


class _Search:
    """The search for one failure that is not known."""

    def __init__(self, run: Run, before: Sequence[Outcome], runs: int, steps: int) -> None:
        self.failure: Outcome | None = None
        self.generated = 0
        self._run, self._runs, self._steps = run, runs, steps
        self._known = {name for outcome in before for name in outcome.failed}
        self._avoid = {outcome.ending for outcome in before if outcome.ending is not None}
        self._outcomes: dict[tuple[str, ...], Outcome] = {}
        self._shrinks = 0

    def search(self, start: int) -> list[Outcome]:
        """Return the outcomes. The failure comes last, if there is one."""
        more = max(0, self._steps - 1)
        # Not lists of any length: hypothesis makes most of these short. `_NOTHING` lets it shrink them.
        then = st.tuples(*[st.sampled_from((_NOTHING, *_THEN))] * more)
        histories = st.tuples(st.sampled_from(_POLICIES), st.sampled_from(_FIRST), then)

        @seed(start)
        @settings(
            max_examples=self._runs,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            print_blob=False,
        )
        @given(histories)
        def play(drawn: tuple[tuple[str, ...], str, tuple[str, ...]]) -> None:
            policy, first, then = drawn
            self._play((*policy, first, *(name for name in then if name != _NOTHING)))

        try:
            play()
        except (_Failed, HypothesisException, ExceptionGroup):
            assert self.failure is not None
        good = [outcome for outcome in self._outcomes.values() if not self._is_new(outcome)]
        return [*good, *filter(None, [self.failure])]

    def _play(self, actions: tuple[str, ...]) -> None:
        outcome = self._outcomes.get(actions)
        if outcome is None:
            if self.failure is None:
                self.generated += 1
            else:
                self._shrinks += 1
                if self._shrinks > _LONGEST_SHRINK:
                    return
            outcome = self._outcomes[actions] = self._run(actions, self._avoid)
        if self._is_new(outcome) and (self.failure is None or outcome.failed.keys() & self.failure.failed.keys()):
            if self.failure is None or len(outcome.actions) < len(self.failure.actions):
                self.failure = outcome
            raise _Failed
        if outcome.ending is not None:
            self._avoid.add(outcome.ending)

    def _is_new(self, outcome: Outcome) -> bool:
        return bool(outcome.failed.keys() - self._known)
