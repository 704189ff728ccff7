"""What the names of a state table mean, in words for a reviewer. Each table has its words beside it.

A table says that a guard or an effect exists, and its function is the code. The words say what the function does, which
errors refuse a trigger, and which events follow one. tests/unit/engine/machines/test_words.py compares them with the
running machines.
"""

from collections.abc import Mapping

import msgspec

IGNORED = ""
"""In place of an error: nothing happens and nothing is raised."""


class Words(msgspec.Struct, frozen=True):
    """What the names of one table mean, and what its machine raises and emits."""

    states: Mapping[str, str]
    """Each state of the table: one sentence."""
    triggers: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """A sentence for a trigger whose name and rows do not explain it."""
    guards: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """Each guard of the table: what it checks, as a clause."""
    effects: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """Each effect of the table: what it does, as a clause."""
    refusals: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict[str, tuple[str, ...]])
    """Each guard: the names of all public errors that it refuses with."""
    missing: str = "TransitionRefused"
    """The name of the error for a trigger that no row allows in a state, or `IGNORED`."""
    missing_in: Mapping[tuple[str, str], str] = msgspec.field(default_factory=dict[tuple[str, str], str])
    """The exceptions: (state, trigger) without a row, and the name of another error, or `IGNORED`."""
    events: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict[str, tuple[str, ...]])
    """Trigger: the names of the public events that always follow when it fires. Others may follow, too."""
    timeouts: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """State: how long it lasts at most, and which trigger ends it then, as a clause."""

    def refusal(self, state: str, trigger: str) -> str:
        """Return the name of the error for a trigger that no row allows in this state, or `IGNORED`."""
        return self.missing_in.get((state, trigger), self.missing)
