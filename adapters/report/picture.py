"""The timeline over the picture of a table: which arrows were taken, and when, as a Mermaid state diagram."""

from collections.abc import Sequence

from authstate.engine.machines.table import Table

_MOST_NUMBERS = 6  # of an arrow
_UNKNOWN_STATE = "unknown_state"
_UNKNOWN_TRIGGER = "unknown trigger"

Taken = tuple[int, str, str, str]
"""The number in the timeline, the state before, the trigger, and the state after."""


def draw_taken(table: Table, taken: Sequence[Taken]) -> str:
    """Return the table as a Mermaid diagram, with the numbers of the timeline on the arrows that were taken.

    States that were reached have another colour, and so has the last one. An arrow that the table does not have is
    drawn as well, and says so. A name that the table does not have is not repeated: it could end the diagram.

    Args:
        table: the state machine.
        taken: the steps, in order.
    """
    taken = [_known(table, one) for one in taken]
    numbers: dict[tuple[str, str, str], list[int]] = {}
    for number, *arrow in taken:
        numbers.setdefault((arrow[0], arrow[2], arrow[1]), []).append(number)
    lines = ["stateDiagram-v2", f"    [*] --> {table.initial}"]
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        for source in row.sources:
            labels = arrows.setdefault((source, row.target), [])
            labels.append(_label(row.trigger, numbers.pop((source, row.target, row.trigger), [])))
    for (source, target, trigger), at in numbers.items():
        label = _label(trigger, at)
        arrows.setdefault((source, target), []).append(f"{label} NOT IN THE TABLE")
    lines += [f"    {source} --> {target} : {'<br>'.join(labels)}" for (source, target), labels in arrows.items()]
    return "\n".join([*lines, *_colours(taken)])


def _known(table: Table, taken: Taken) -> Taken:
    number, before, trigger, after = taken
    triggers = {row.trigger for row in table.rows}
    before, after = (state if state in table.states else _UNKNOWN_STATE for state in (before, after))
    return number, before, trigger if trigger in triggers else _UNKNOWN_TRIGGER, after


def _label(trigger: str, numbers: Sequence[int]) -> str:
    if not numbers:
        return trigger
    shown = ", ".join(f"#35;{number}" for number in numbers[-_MOST_NUMBERS:])
    more = f"{len(numbers) - _MOST_NUMBERS} more, " if len(numbers) > _MOST_NUMBERS else ""
    return f"{trigger} ({more}{shown})"


def _colours(taken: Sequence[Taken]) -> list[str]:
    if not taken:
        return []
    last = taken[-1][3]
    reached = sorted({state for _, before, _, after in taken for state in (before, after)} - {last})
    classes = {"reached": reached, "last": [last]}
    lines = [
        "    classDef reached fill:#dbeafe,stroke:#1d4ed8,color:#111827",
        "    classDef last fill:#fde68a,stroke:#b45309,color:#111827,stroke-width:3px",
    ]
    return [*lines, *(f"    class {','.join(states)} {name}" for name, states in classes.items() if states)]
