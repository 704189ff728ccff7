"""What happened to a login: the report that is made of its journal."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from authstate.adapters.journal.lines import Line
from authstate.adapters.journal.reader import Journal
from authstate.adapters.report.explanation import explain
from authstate.adapters.report.names import Names, Program
from authstate.adapters.report.picture import Taken
from authstate.adapters.report.readable import with_readable_lines
from authstate.adapters.report.refusal import Refusal
from authstate.adapters.report.replay import RULES, replay
from authstate.adapters.report.words import describe_line
from authstate.engine.machines.refresh_claim import format_time
from authstate.engine.version import VERSION


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """One line of the timeline."""

    number: int
    """From 1."""
    at: str
    """As ISO 8601, in UTC, by the clock of the process."""
    process: str
    what: str
    says: str
    """In words."""


class Verdict(msgspec.Struct, frozen=True, rename="camel"):
    """What the replay over the tables found."""

    checked: int
    """Lines."""
    is_as_the_tables_say: bool | None
    """None: not known, because the steps on a token can have happened in too many orders to try them all."""
    first: int | None = None
    """The number of the first step that is not allowed."""
    rule: str | None = None
    """The name of the table or of the rule that does not allow it."""
    asks: str | None = None
    """What that rule asks. None for a table."""
    why: str | None = None
    not_known: tuple[str, ...] = ()
    """The names of the refresh tokens for which it is not known."""


class Process(msgspec.Struct, frozen=True, rename="camel"):
    """One engine of a process."""

    name: str
    pid: int
    program: str
    version: str
    first_line: str
    last_line: str
    ended_in_order: bool


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """Everything that `authstate report` says. It holds no secret, and no email that nobody asked for."""

    schema: int
    release: str
    made_at: str
    explanation: list[str]
    verdict: Verdict
    logins: Mapping[str, str]
    """Emails by the name of a login, if somebody asked for them."""
    processes: list[Process]
    timeline: list[Entry]
    notes: list[str]
    """What is missing in the journal, and why."""
    login_steps: list[Taken]
    claim_steps: list[Taken]
    """The steps over the table of the login, and over that of the claim on the last refresh token that went wrong."""


def make_report(journal: Journal, now: float, emails: Mapping[str, str] | None = None) -> Report:
    """Make the report of a journal.

    Args:
        journal: what was read.
        now: seconds since the epoch.
        emails: the emails to show, by the digest of their account. Default: none.
    """
    journal = with_readable_lines(journal)
    lines = journal.lines
    names = Names(lines)
    shown = {names.login(digest): email for digest, email in (emails or {}).items() if digest in names.logins}
    return Report(
        schema=1,
        release=VERSION,
        made_at=_instant(now),
        explanation=explain(lines, names),
        verdict=_verdict(lines, names),
        logins=shown,
        processes=[_process(program) for program in names.programs.values()],
        timeline=[_entry(number, line, names) for number, line in enumerate(lines, start=1)],
        notes=_notes(journal, names),
        login_steps=_taken(lines, "state_changed", None),
        claim_steps=_taken(lines, "claim", _token_in_question(lines)),
    )


def _verdict(lines: Sequence[Line], names: Names) -> Verdict:
    found = replay(lines)
    not_known = tuple(names.token(token) for token in found.not_known)
    if found.first is None:
        return Verdict(found.steps, is_as_the_tables_say=None if not_known else True, not_known=not_known)
    refusal: Refusal = found.first
    number = next(place for place, line in enumerate(lines, start=1) if line is refusal.line)
    why = f"{names.program(refusal.line)} at {format_time(refusal.line.at)}: {refusal.why}"
    return Verdict(
        found.steps,
        is_as_the_tables_say=False,
        first=number,
        rule=refusal.rule,
        asks=RULES.get(refusal.rule),
        why=why,
        not_known=not_known,
    )


def _taken(lines: Sequence[Line], what: str, token: str | None) -> list[Taken]:
    """The steps over a table. With a token, those of its claim."""
    found: list[Taken] = []
    for number, line in enumerate(lines, start=1):
        data = line.data
        if line.what == what and (what == "state_changed" or data.get("token") == token):
            before = data.get("previous", data.get("found"))
            found.append((number, str(before), str(data.get("trigger")), str(data.get("state"))))
    return found


def _token_in_question(lines: Sequence[Line]) -> str | None:
    """The last refresh token that is dead or in doubt, or else the last one that was claimed."""
    claims = [line for line in lines if line.what == "claim"]
    wrong = [line for line in claims if line.data.get("state") in ("dead", "doubtful")]
    return str((wrong or claims)[-1].data.get("token")) if claims else None


def _process(program: Program) -> Process:
    return Process(
        program.name,
        program.pid,
        program.program or "not known",
        program.version or "not known",
        _instant(program.first_at),
        _instant(program.last_at),
        program.has_ended,
    )


def _entry(number: int, line: Line, names: Names) -> Entry:
    return Entry(number, _instant(line.at), names.program(line), line.what, describe_line(line, names))


def _notes(journal: Journal, names: Names) -> list[str]:
    notes = list(journal.faults)
    if journal.unreadable:
        notes.append(
            f"{journal.unreadable} lines cannot be read: a process was killed, the disk was full, or they were forged"
        )
    if journal.newer:
        notes.append(f"{journal.newer} lines are of a newer release in another format: make the report with that one")
    last: dict[str, int] = {}
    for line in journal.lines:
        missing = line.n - last.get(line.by, 0) - 1
        if missing > 0:
            notes.append(f"{missing} lines of {names.program(line)} are missing before {format_time(line.at)}")
        last[line.by] = line.n
    return notes


def _instant(seconds: float) -> str:
    """ISO 8601 with milliseconds. Empty if no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""
