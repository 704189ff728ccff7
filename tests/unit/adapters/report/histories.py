"""Journals to replay, written by hand."""

from collections.abc import Sequence

from authstate.adapters.journal.lines import Data, Line

OLD, NEW = "a" * 32, "b" * 32


class Writer:
    """Makes the lines of one engine, numbered."""

    def __init__(self, journal: list[Line], by: str, pid: int = 100) -> None:
        self._journal = journal
        self.by = by
        self._pid = pid
        self._count = 0
        self.at = 1_000_000.0

    def add(self, what: str, **data: str | int | float | bool) -> Line:
        """Append a line, a second later than the one before."""
        self._count += 1
        self.at += 1.0
        line = Line(1, self.at, self.by, self._count, self._pid, what, dict(data))
        self._journal.append(line)
        return line

    def skip(self) -> None:
        """Lose a line."""
        self._count += 1

    def starts(self, token: str = OLD, **data: str | int | float | bool) -> None:
        """Begin, with a stored login."""
        self.add("opened", program="tool", version="1.0")
        self.changed("complete_chatgpt_login", "logged_out", "chatgpt", 1, token=token, **data)

    def changed(
        self, trigger: str, previous: str, state: str, generation: int, **data: str | int | float | bool
    ) -> Line:
        """Append a change of the session."""
        kind = {"chatgpt": "chatgpt", "refresh_dead": "chatgpt", "logged_out": "none"}.get(state, state)
        members: Data = {"kind": kind, "login": "d" * 16, **data}
        if kind != "chatgpt":
            members.pop("token", None)
        return self.add(
            "state_changed", trigger=trigger, previous=previous, state=state, generation=generation, **members
        )

    def claim(self, found: str = "free", token: str = OLD, **data: str | int | float | bool) -> Line:
        """Append a claim."""
        return self.add("claim", trigger="claim", found=found, state="claimed", token=token, **data)

    def ends(self, trigger: str, token: str = OLD, **data: str | int | float | bool) -> Line:
        """Append the end of a claim."""
        state = {"withdraw": "free", "lose": "doubtful", "settle": "spent", "refuse": "dead"}[trigger]
        return self.add("claim", trigger=trigger, found="claimed", state=state, token=token, **data)

    def refreshes(self, token: str = OLD, new: str = NEW, generation: int = 2) -> None:
        """Refresh without a fault."""
        self.add("refresh_started", reason="needed", generation=generation - 1)
        self.claim(token=token)
        self.add("sent", token=token, attempt=1)
        self.add("answered", token=token, attempt=1)
        self.ends("settle", token, successor=new)
        self.changed("tokens_refreshed", "chatgpt", "chatgpt", generation, token=new)
        self.add("refresh_ended", outcome="refreshed", attempts=1, generation=generation, duration=0.1)


def writers(*names: str) -> tuple[list[Line], Sequence[Writer]]:
    """Return an empty journal and who writes to it."""
    journal: list[Line] = []
    return journal, [Writer(journal, name, 100 + number) for number, name in enumerate(names)]
