"""What a replay says of a step that must not happen."""

import msgspec

from authstate.adapters.journal.lines import Line


class Refusal(msgspec.Struct, frozen=True):
    """A step that the tables, or a rule of the refresh, do not allow."""

    line: Line
    rule: str
    """The name of the table, or of the rule, that does not allow it."""
    why: str
    """What is wrong with it: a sentence for a person."""
