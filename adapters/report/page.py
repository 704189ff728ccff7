"""A report as one Markdown file: for an issue, a mail or a pull request."""

import re
from collections.abc import Iterator, Sequence

from authstate.adapters.report.picture import draw_taken
from authstate.adapters.report.report import Entry, Report
from authstate.engine.machines.auth_state import AUTH_TABLE
from authstate.engine.machines.refresh_claim import REFRESH_CLAIM_TABLE

MOST_ENTRIES = 300
"""Lines of the timeline that a page shows: the last ones. JSON has all."""
_MOST_TEXT = 3_000  # characters of a paragraph or of a cell
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~#])")
_LINKS = re.compile(r"(@|#(?=\w)|\bGH-(?=\d)|:(?=//)|\bwww(?=\.))", re.IGNORECASE)
_NO_LINK = "\u200b"
"""Has no width. GitHub links what follows an @ or a # even if these are escaped, so that is parted from them."""
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")


def render_page(report: Report) -> str:
    """Return a report as Markdown. GitHub shows its diagrams."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield from ("# What happened to the login", "")
    yield from (f"Made by authstate {report.release} at {report.made_at}. It holds no token and no key.", "")
    for paragraph in report.explanation:
        yield from (_plain(paragraph), "")
    yield from ("## Was each step allowed?", "", _verdict(report), "")
    if report.notes:
        yield from ("What is missing in the journal:", "", *(f"- {_plain(note)}" for note in report.notes), "")
    if report.logins:
        yield from ("## Logins", "", *(f"- {name}: {_email(email)}" for name, email in report.logins.items()), "")
    yield from _processes(report)
    yield from _pictures(report)
    yield from _timeline(report.timeline)


def _verdict(report: Report) -> str:
    verdict = report.verdict
    if verdict.is_as_the_tables_say is None:
        tokens = ", ".join(verdict.not_known)
        return (
            f"Not known: the claims on {tokens} can have happened in too many orders to try them all, and none of "
            f"those that were tried is allowed. The tables allow the rest of the {verdict.checked} lines."
        )
    if verdict.is_as_the_tables_say:
        return f"Yes: the tables allow each of the {verdict.checked} lines."
    asks = f" The rule: {verdict.asks}." if verdict.asks else ""
    where = f"the table or rule *{verdict.rule}* does not allow line #{verdict.first}"
    return f"No: {where}. {_plain(verdict.why or '')}.{asks}"


def _processes(report: Report) -> Iterator[str]:
    if not report.processes:
        return
    yield from ("## Who wrote lines", "")
    yield from ("| process | authstate | first line | last line | end |", "|---|---|---|---|---|")
    for one in report.processes:
        end = "in order" if one.ended_in_order else "none: it runs, or was killed"
        yield f"| {_plain(one.name)} | {_plain(one.version)} | {one.first_line} | {one.last_line} | {end} |"
    yield ""


def _pictures(report: Report) -> Iterator[str]:
    if report.login_steps:
        yield from ("## The login", "", "The numbers are those of the timeline below.", "")
        yield from ("```mermaid", draw_taken(AUTH_TABLE, report.login_steps), "```", "")
    if report.claim_steps:
        yield from ("## The claim on the refresh token that went wrong, or was used last", "")
        yield from ("```mermaid", draw_taken(REFRESH_CLAIM_TABLE, report.claim_steps), "```", "")


def _timeline(entries: Sequence[Entry]) -> Iterator[str]:
    if not entries:
        return
    yield from ("## Timeline", "")
    shown = entries[-MOST_ENTRIES:]
    if len(shown) < len(entries):
        yield from (f"The first {len(entries) - len(shown)} lines are left out here: `--json` has them.", "")
    yield from ("| # | time (UTC) | process | what happened |", "|---|---|---|---|")
    for entry in shown:
        yield f"| {entry.number} | {entry.at} | {_plain(entry.process)} | {_plain(entry.says)} |"


def _plain(text: str) -> str:
    """Take the meaning from what Markdown, HTML and GitHub give one, and from control characters: text is untrusted.

    GitHub reads a dollar sign as mathematics, and an escape does not always help: it is shown as a wide one.
    """
    shown = "".join(sign if sign.isprintable() else " " for sign in text[:_MOST_TEXT])
    shown = _LINKS.sub(rf"\1{_NO_LINK}", shown.replace("$", "\uff04"))
    return _MARKUP.sub(r"\\\1", shown.replace("&", "&amp;"))


def _email(text: str) -> str:
    """An email that somebody asked for."""
    return _MARKUP.sub(r"\\\1", text) if _EMAIL.fullmatch(text) else _plain(text)
