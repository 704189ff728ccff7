"""The refreshes of a journal, each with what happened in it."""

from collections.abc import Mapping, Sequence

import msgspec

from authstate.adapters.journal.lines import Data, Line
from authstate.engine.machines.refresh_claim import RefreshClaimState
from authstate.engine.model.states import AuthState

_DEATHS = (("claim", RefreshClaimState.DEAD), ("state_changed", AuthState.REFRESH_DEAD))


class Refresh(msgspec.Struct):
    """One refresh of one engine, from its first line to its last."""

    place: int
    """Of its first line in the journal."""
    began: Line
    token: str = ""
    """The digest of the refresh token that it used."""
    sent: int = 0
    """How often the token left this machine, as far as is known."""
    answers: list[Data] = msgspec.field(default_factory=list)
    found: str = ""
    """The state of the claim that it found, if it claimed the token."""
    warnings: list[Line] = msgspec.field(default_factory=list)
    failure: Data | None = None
    rejected: Line | None = None
    """The change of state to refresh_dead."""
    ended: Line | None = None
    """None: there is no such line. The process was killed, or the lines are lost."""

    @property
    def outcome(self) -> str:
        """How it ended. Empty if that is not known."""
        return str(self.ended.data.get("outcome", "")) if self.ended is not None else ""

    @property
    def is_unusual(self) -> bool:
        """Whether something went wrong in it, or nearly did."""
        is_fine = self.outcome in ("refreshed", "adopted", "not_needed", "cancelled")
        return not is_fine or bool(self.warnings) or self.sent > 1 or self.found in ("claimed", "doubtful")

    def only_found_dead(self, deaths: Mapping[str, int]) -> bool:
        """Whether it did nothing but find that its login was dead already.

        Args:
            deaths: see `deaths_in`.
        """
        was_dead = deaths.get(self.token, self.place) < self.place
        return was_dead and not self.sent and not self.warnings and self.outcome in ("rejected", "failed")


def deaths_in(lines: Sequence[Line]) -> dict[str, int]:
    """Return the place of the first line that calls a refresh token dead, by the digest of the token."""
    found: dict[str, int] = {}
    for place, line in enumerate(lines):
        is_death = (line.what, line.data.get("state")) in _DEATHS
        if is_death and (token := line.data.get("token")):
            found.setdefault(str(token), place)
    return found


def refreshes_of(lines: Sequence[Line]) -> list[Refresh]:
    """Return the refreshes of a journal, in the order in which they began."""
    found: list[Refresh] = []
    running: dict[str, Refresh] = {}
    tokens: dict[str, str] = {}
    for place, line in enumerate(lines):
        if line.what == "refresh_started":
            running[line.by] = Refresh(place, line, tokens.get(line.by, ""))
            found.append(running[line.by])
        elif (refresh := running.get(line.by)) is not None:
            _add(refresh, line)
            if line.what == "refresh_ended":
                del running[line.by]
        if line.what == "state_changed":
            tokens[line.by] = str(line.data.get("token", ""))
    return found


def _add(refresh: Refresh, line: Line) -> None:
    data = line.data
    if line.what == "claim" and data.get("trigger") == "claim":
        refresh.found, refresh.token = str(data.get("found", "")), str(data.get("token", ""))
    elif line.what == "sent":
        refresh.sent += 1
    elif line.what == "answered":
        refresh.answers.append(data)
        if data.get("delivery") == "not_sent" and refresh.sent:
            refresh.sent -= 1
    elif line.what == "warned":
        refresh.warnings.append(line)
    elif line.what == "refresh_failed":
        refresh.failure = data
    elif line.what == "state_changed" and data.get("trigger") == "refresh_rejected":
        refresh.rejected = line
    elif line.what == "refresh_ended":
        refresh.ended = line
