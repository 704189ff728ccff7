"""Short names for what a journal tells apart by digests: processes, refresh tokens and logins."""

from collections.abc import Iterable

import msgspec

from authstate.adapters.journal.lines import Line


class Program(msgspec.Struct, frozen=True):
    """One engine that wrote lines, and what is known of its process."""

    by: str
    pid: int
    name: str
    """For a sentence: the process, and its program if that is known."""
    program: str = ""
    version: str = ""
    first_at: float = 0.0
    """Seconds since the epoch, of its first line that is left."""
    last_at: float = 0.0
    has_ended: bool = False
    """It was closed in order."""


class Names:
    """The names of one journal. A report holds these, and no digest.

    Args:
        lines: all lines, in order.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self.programs: dict[str, Program] = {}
        self._tokens: dict[str, str] = {}
        self._logins: dict[str, str] = {}
        self._seen_pids: dict[int, int] = {}
        for line in lines:
            self._add(line)

    def _add(self, line: Line) -> None:
        known = self.programs.get(line.by)
        if known is None:
            of_pid = self._seen_pids[line.pid] = self._seen_pids.get(line.pid, 0) + 1
            said = line.data if line.what == "opened" else {}
            program, version = str(said.get("program", "")), str(said.get("version", ""))
            engine = f", engine {of_pid}" if of_pid > 1 else ""
            shown = f" ({program}{engine})" if program else f" ({engine[2:]})" if engine else ""
            known = Program(line.by, line.pid, f"process {line.pid}{shown}", program, version, line.at)
        self.programs[line.by] = msgspec.structs.replace(known, last_at=line.at, has_ended=line.what == "ended")
        for name in ("token", "successor"):
            if isinstance(digest := line.data.get(name), str) and digest:
                self._tokens.setdefault(digest, f"rt-{len(self._tokens) + 1}")
        if isinstance(digest := line.data.get("login"), str):
            self._logins.setdefault(digest, f"login {_letter(len(self._logins))}")

    def program(self, line: Line) -> str:
        """Return the name of who wrote a line."""
        return self.programs[line.by].name

    def token(self, digest: object) -> str:
        """Return the name of a refresh token."""
        return self._tokens.get(str(digest), "a refresh token")

    def login(self, digest: object) -> str:
        """Return the name of a login: `login A`."""
        return self._logins.get(str(digest), "a login")

    @property
    def logins(self) -> dict[str, str]:
        """The name of each login, by its digest."""
        return dict(self._logins)


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)
