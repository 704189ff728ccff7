"""Whether the claims on one refresh token, by all processes, can have happened as their lines say.

Each process writes its own lines in order. How the lines of several processes mix in the file says little: a line is
written a moment after its step. So any order counts that keeps the lines of each process in theirs, as long as each
step begins where the one before it ended, and only the process that claimed a token ends its claim.

What is known between two steps is a set of possibilities (state, holder). A step whose record failed may count or not.
A process that was killed may have taken one step more than its lines say, or one without any line.

The order of the file is tried first, in a time that grows with the number of lines. Then other orders are searched, up
to a bound: there can be more of them than anybody can try, and then the answer is "not known".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from authstate.adapters.journal.lines import Line
from authstate.adapters.report.refusal import Refusal
from authstate.engine.machines.refresh_claim import (
    REFRESH_CLAIM_TABLE,
    RefreshClaimState,
    RefreshClaimTrigger,
)
from authstate.engine.machines.table import Table

_MOST_WORK = 200_000
_WORK_OF_A_TRY = 10  # and one for each engine: a try costs some microseconds
NOT_KNOWN: Final = "not known"
"""There are too many orders to try them all, and none of those that were tried is possible."""
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


_BEFORE: Worlds = frozenset((str(state), _ANYBODY) for state in RefreshClaimState)
"""Before the first line, a token may be known already: the ring dropped older lines, or there was no journal."""


class _Steps(msgspec.Struct):
    """The steps of one engine on a token, and where they are in the journal."""

    number: int
    lines: list[Line]
    places: list[int]
    may_go_on: bool
    """It did not end in order, or lines of it are lost: there may be a step more."""

    def is_claim(self, position: int) -> bool:
        """Whether a step is a claim, and not the end of one."""
        return self.lines[position].data.get("trigger") == RefreshClaimTrigger.CLAIM

    def is_loop(self, position: int, state: str) -> bool:
        """Whether the next two steps claim a token in this state, and leave it so."""
        if position + 1 >= len(self.lines) or not self.is_claim(position) or self.is_claim(position + 1):
            return False
        claim, end = self.lines[position].data, self.lines[position + 1].data
        is_recorded = claim.get("recorded", True) and end.get("recorded", True)
        is_own = claim.get("state") == end.get("found") == _CLAIMED and state in (_FREE, _DOUBTFUL)
        return bool(is_recorded) and is_own and claim.get("found") == end.get("state") == state


def first_disorder(
    steps: Sequence[tuple[int, Line]], cut_off: Iterable[str], table: Table = REFRESH_CLAIM_TABLE
) -> tuple[int, Refusal] | Literal["not known"] | None:
    """Return the first step on a token that cannot have happened after the others, and its place in the journal.

    Args:
        steps: the lines of one token with their places, in the order of the journal.
        cut_off: the engines that may have taken steps without a line.
        table: the table of claims.

    Returns:
        None if there is an order in which each step is possible. NOT_KNOWN if there are too many orders.
    """
    unfinished = set(cut_off)
    queues: dict[str, _Steps] = {}
    for place, line in steps:
        queue = queues.setdefault(line.by, _Steps(len(queues), [], [], line.by in unfinished))
        queue.lines.append(line)
        queue.places.append(place)
    search = _Search(queues, table)
    return None if search.is_possible([line for _, line in steps]) else search.run()


class _Search:
    """Looks for an order."""

    def __init__(self, queues: Mapping[str, _Steps], table: Table) -> None:
        self._by_name = queues
        self._queues = list(queues.values())
        self._table = table
        self._tried: set[tuple[tuple[int, ...], Worlds]] = set()
        self._deepest: tuple[int, tuple[int, ...], Worlds] = (-1, (), frozenset())

    def is_possible(self, lines: Sequence[Line]) -> bool:
        """Whether the steps can have happened in this order."""
        positions, worlds = [0] * len(self._queues), _BEFORE
        for line in lines:
            worlds = self._after(line, self._with_unseen(positions, worlds))
            if not worlds:
                return False
            positions[self._by_name[line.by].number] += 1
        return True

    def run(self) -> tuple[int, Refusal] | Literal["not known"] | None:
        """See `first_disorder`."""
        stack = [((0,) * len(self._queues), _BEFORE)]
        most = _MOST_WORK // (_WORK_OF_A_TRY + len(self._queues))
        while stack:
            positions, worlds = stack.pop()
            if (positions, worlds) in self._tried:
                continue
            if len(self._tried) >= most:
                return NOT_KNOWN
            self._tried.add((positions, worlds))
            if (depth := sum(positions)) > self._deepest[0]:
                self._deepest = depth, positions, worlds
            if (ahead := self._after_loop(positions, worlds)) is not None:
                stack.append(ahead)
                continue
            heads = [
                (queue.is_claim(position), queue.places[position], queue.number)
                for queue, position in zip(self._queues, positions, strict=True)
                if position < len(queue.lines)
            ]
            if not heads:
                return None
            before = self._with_unseen(positions, worlds)
            for *_, number in sorted(heads, reverse=True):  # the first one is tried first: the end of a claim
                if after := self._after(self._queues[number].lines[positions[number]], before):
                    stack.append((_advance(positions, number, 1), after))
        return self._refusal()

    def _after_loop(self, positions: tuple[int, ...], worlds: Worlds) -> tuple[tuple[int, ...], Worlds] | None:
        """Go on by a claim that is given back as it was found, if there is one. No other order has to be tried.

        It can come at any time at which the token is in that state, and the other steps do not need it: an order that
        has it later is still possible if it comes now.
        """
        states = {state for state, _ in worlds}
        if len(states) != 1:
            return None
        [state] = states
        for queue, position in zip(self._queues, positions, strict=True):
            if queue.is_loop(position, state):
                return _advance(positions, queue.number, 2), frozenset({(state, queue.lines[position].by)})
        return None

    def _with_unseen(self, positions: Sequence[int], worlds: Worlds) -> Worlds:
        """Add what a process may have done before it was killed: it claimed the token, or ended its claim."""
        found = set(worlds)
        if any(self._table.target(state, RefreshClaimTrigger.CLAIM) for state, _ in worlds):
            found.add((_CLAIMED.value, _UNSEEN))
        for state, holder in worlds:
            queue = self._by_name.get(holder)
            if queue is None or state != _CLAIMED or not queue.may_go_on:
                continue
            if positions[queue.number] == len(queue.lines):
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


def _advance(positions: tuple[int, ...], number: int, steps: int) -> tuple[int, ...]:
    return (*positions[:number], positions[number] + steps, *positions[number + 1 :])


def _describe(line: Line, worlds: Worlds) -> str:
    known = sorted({_WORDS.get(RefreshClaimState(state), state) for state, _ in worlds})
    if line.data.get("trigger") == RefreshClaimTrigger.CLAIM:
        found = line.data.get("found")
        shown = _WORDS[RefreshClaimState(found)] if found in set(RefreshClaimState) else str(found)
        return f"it claims a refresh token that it found {shown}, and by the lines before, it is {' or '.join(known)}"
    trigger = line.data.get("trigger")
    return f"it ends a claim that is not its own ({trigger}): by the lines before, the token is {' or '.join(known)}"
