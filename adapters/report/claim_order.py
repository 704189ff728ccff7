"""Whether the claims on one refresh token, by all processes, can have happened as their lines say.

Each process writes its own lines in order. How the lines of several processes mix in the file says little: a line is
written a moment after its step. So any order counts that keeps the lines of each process in theirs, as long as each
step begins where the one before it ended, and only the process that claimed a token ends its claim.

What is known between two steps is a set of possibilities (state, holder). A step whose record failed may count or not.
A process that was killed may have taken one step more than its lines say, or one without any line.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from authstate.adapters.journal.lines import Line
from authstate.adapters.report.refusal import Refusal
from authstate.engine.machines.refresh_claim import (
    REFRESH_CLAIM_TABLE,
    RefreshClaimState,
    RefreshClaimTrigger,
)
from authstate.engine.machines.table import Table

_MOST_TRIES = 5_000
_ANYBODY = "any"
"""Holds what was there before the journal begins. Each process may have been that one."""
_UNSEEN = "unseen"
"""Holds what a process claimed that was killed before its line was written."""
_FREE, _CLAIMED, _DOUBTFUL, _SPENT, _DEAD = RefreshClaimState
_WORDS = {
    _FREE: "free to be sent",
    _CLAIMED: "claimed by another process",
    _DOUBTFUL: "in doubt",
    _SPENT: "spent",
    _DEAD: "dead",
}

World = tuple[str, str]
"""The state of the claim, and who holds it."""
Worlds = frozenset[World]


class _Steps(msgspec.Struct):
    """The steps of one engine on a token, and where they are in the journal."""

    lines: list[Line]
    places: list[int]
    may_go_on: bool
    """It did not end in order, or lines of it are lost: there may be a step more."""


def first_disorder(
    steps: Sequence[tuple[int, Line]], cut_off: Iterable[str], table: Table = REFRESH_CLAIM_TABLE
) -> tuple[int, Refusal] | None:
    """Return the first step on a token that cannot have happened after the others, and its place in the journal.

    Args:
        steps: the lines of one token with their places, in the order of the journal.
        cut_off: the engines that may have taken steps without a line.
        table: the table of claims.

    Returns:
        None if there is an order in which each step is possible.
    """
    unfinished = set(cut_off)
    queues: dict[str, _Steps] = {}
    for place, line in steps:
        queue = queues.setdefault(line.by, _Steps([], [], line.by in unfinished))
        queue.lines.append(line)
        queue.places.append(place)
    return _Search(queues, table).run()


class _Search:
    """Looks for an order. It tries that of the journal first, which nearly always is one."""

    def __init__(self, queues: Mapping[str, _Steps], table: Table) -> None:
        self._queues = list(queues.values())
        self._table = table
        self._tried: set[tuple[tuple[int, ...], Worlds]] = set()
        self._deepest: tuple[int, tuple[int, ...], Worlds] = (-1, (), frozenset())

    def run(self) -> tuple[int, Refusal] | None:
        """See `first_disorder`."""
        # Before the first line, a token may be known already: the ring dropped older lines, or there was no journal.
        before = frozenset((str(state), _ANYBODY) for state in RefreshClaimState)
        stack = [((0,) * len(self._queues), before)]
        while stack and len(self._tried) < _MOST_TRIES:
            positions, worlds = stack.pop()
            if (positions, worlds) in self._tried:
                continue
            self._tried.add((positions, worlds))
            if (depth := sum(positions)) > self._deepest[0]:
                self._deepest = depth, positions, worlds
            heads = [
                (queue.places[position], number)
                for number, (queue, position) in enumerate(zip(self._queues, positions, strict=True))
                if position < len(queue.lines)
            ]
            if not heads:
                return None
            for _, number in sorted(heads, reverse=True):  # the first one is tried first
                after = self._after(self._queues[number].lines[positions[number]], self._with_unseen(positions, worlds))
                if after:
                    ahead = tuple(one + (index == number) for index, one in enumerate(positions))
                    stack.append((ahead, after))
        return self._refusal()

    def _with_unseen(self, positions: tuple[int, ...], worlds: Worlds) -> Worlds:
        """Add what a process may have done before it was killed: it claimed the token, or ended its claim."""
        ended = [
            queue
            for queue, position in zip(self._queues, positions, strict=True)
            if queue.may_go_on and position == len(queue.lines)
        ]
        names = {queue.lines[-1].by for queue in ended}
        found = set(worlds)
        if any(self._table.target(state, RefreshClaimTrigger.CLAIM) for state, _ in worlds):
            found.add((_CLAIMED.value, _UNSEEN))
        for state, holder in tuple(found):
            if state == _CLAIMED and holder in names:
                found |= {(other.value, holder) for other in (_FREE, _DOUBTFUL, _SPENT, _DEAD)}
        return frozenset(found)

    def _after(self, line: Line, worlds: Worlds) -> Worlds:
        """What is possible after a step. Nothing: the step is not possible."""
        data = line.data
        trigger, found, state = data.get("trigger"), data.get("found"), data.get("state")
        is_recorded = data.get("recorded", True)
        if trigger == RefreshClaimTrigger.CLAIM:
            if all(world[0] != found for world in worlds):
                return frozenset()
            made = frozenset({(str(state), line.by)})
            return made if is_recorded else worlds | made
        can_end = any(world[0] == found and world[1] in (line.by, _ANYBODY) for world in worlds)
        made = frozenset({(str(state), line.by)})
        if not is_recorded:
            return worlds | made if can_end else worlds
        if not can_end:
            return frozenset()
        # The save of an answer settles the claim in the same step, and a fault of that second part goes unnoticed.
        return made | {(_CLAIMED.value, line.by)} if trigger == RefreshClaimTrigger.SETTLE else made

    def _refusal(self) -> tuple[int, Refusal]:
        """The first step, in the journal, that is left where the search got farthest."""
        _, positions, worlds = self._deepest
        place, line = min(
            (queue.places[position], queue.lines[position])
            for queue, position in zip(self._queues, positions, strict=True)
            if position < len(queue.lines)
        )
        return place, Refusal(line, self._table.name, _describe(line, worlds))


def _describe(line: Line, worlds: Worlds) -> str:
    known = sorted({_WORDS.get(RefreshClaimState(state), state) for state, _ in worlds})
    if line.data.get("trigger") == RefreshClaimTrigger.CLAIM:
        found = line.data.get("found")
        shown = _WORDS[RefreshClaimState(found)] if found in set(RefreshClaimState) else str(found)
        return f"it claims a refresh token that it found {shown}, and by the lines before, it is {' or '.join(known)}"
    trigger = line.data.get("trigger")
    return f"it ends a claim that is not its own ({trigger}): by the lines before, the token is {' or '.join(known)}"
