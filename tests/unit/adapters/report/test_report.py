"""A report: what it says in words, its pictures, its timeline, and that it shows nothing that it must not."""

import re

import msgspec
import pytest
from unit.adapters.report.histories import NEW, OLD, Writer, writers

from authstate.adapters.journal.lines import Line
from authstate.adapters.journal.reader import Journal
from authstate.adapters.report.explanation import explain
from authstate.adapters.report.names import Names
from authstate.adapters.report.page import MOST_ENTRIES, render_page
from authstate.adapters.report.picture import draw_taken
from authstate.adapters.report.report import make_report
from authstate.engine.machines.refresh_claim import REFRESH_CLAIM_TABLE

NOW = 1_700_000_000.0


def told(journal: list[Line]) -> list[str]:
    return explain(journal, Names(journal))


def dead_login() -> list[Line]:
    """The process a sends a token and is killed. The process b finds that, and its issuer refuses the token."""
    journal, [one, other] = writers("a", "b")
    one.starts()
    one.add("refresh_started", reason="background", generation=1)
    one.claim()
    one.add("sent", token=OLD, attempt=1)
    other.at = one.at + 10.0
    other.starts()
    other.add("unauthorized", generation=1)
    other.add("refresh_started", reason="unauthorized", generation=1)
    other.claim("claimed")
    other.add("sent", token=OLD, attempt=1)
    other.add("answered", token=OLD, attempt=1, reason="exhausted", error="used up")
    other.ends("refuse", reason="exhausted")
    other.changed("refresh_rejected", "chatgpt", "refresh_dead", 2, token=OLD, reason="exhausted", message="Used up.")
    other.add("refresh_ended", outcome="rejected", attempts=1, generation=2, duration=0.2, error="Used up.")
    return journal


def test_it_says_why_a_login_died_and_who_did_what() -> None:
    now, died, before = told(dead_login())
    assert now == "The login is dead since 1970-01-12 13:47:03 UTC, when process 101 (tool) found it so: Used up."
    assert re.sub("1970-01-12 13:4.:.. UTC", "TIME", died) == (
        "At TIME, process 101 (tool) began a refresh: the backend had refused the access token (401). Another process "
        "had claimed the refresh token rt-1 before, and ended in the middle of its refresh. The refresh token rt-1 was "
        "sent once. The login died. Process 100 (tool) had sent the same token at TIME."
    )
    assert re.sub("1970-01-12 13:4.:.. UTC", "TIME", before) == (
        "At TIME, process 100 (tool) began a refresh: the access token expires within 5 minutes. The refresh "
        "token rt-1 was sent once. No line tells its end: process 100 (tool) was killed, or its last lines are lost."
    )


def test_a_login_is_dead_since_its_first_death_and_not_since_the_last_look() -> None:
    journal = dead_login()
    first = told(journal)
    for number in range(7):
        one = Writer(journal, f"late{number}", 200 + number)
        one.at = journal[-1].at + 3600.0
        one.starts()
        one.add("refresh_started", reason="needed", generation=1)
        one.changed("refresh_rejected", "chatgpt", "refresh_dead", 2, token=OLD, reason="exhausted", message="Used up.")
        one.add("refresh_ended", outcome="rejected", attempts=0, generation=2, duration=0.1)
    now, late, *others = told(journal)
    assert [now, *others] == first
    assert re.sub("1970-01-12 ..:..:.. UTC", "TIME", late) == (
        "Later, 7 refreshes only found that a login was dead already, and sent nothing: the last one at TIME, by "
        "process 206 (tool)."
    )


def test_it_says_when_a_dead_login_works_again() -> None:
    journal = dead_login()
    [third] = writers("c")[1]
    third._journal, third.at = journal, journal[-1].at
    third.starts()
    third.changed("complete_chatgpt_login", "chatgpt", "chatgpt", 2, token=NEW)
    assert told(journal)[0].startswith("The login works, as far as the journal tells: at ")
    assert "somebody signed in (process 100 (tool, engine 2))" in told(journal)[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("log_out", "chatgpt", "logged_out", 2), "Nobody is signed in since 1970-01-12 13:46:43 UTC"),
        (("credentials_refused", "chatgpt", "logged_out", 2), "a policy forbade what was stored"),
        (("tokens_refreshed", "chatgpt", "chatgpt", 2), "found them stored by another program"),
        (("use_api_key", "chatgpt", "api_key", 2), "signed in, or noticed that another program did"),
    ],
)
def test_it_says_who_is_signed_in_now(change: tuple[str, str, str, int], words: str) -> None:
    journal, [one] = writers("a")
    one.starts()
    one.changed(*change)
    assert words in told(journal)[0]


def test_it_says_that_another_process_had_replaced_the_tokens() -> None:
    journal, [one, other] = writers("a", "b")
    one.starts()
    other.starts()
    one.refreshes()
    other.add("refresh_started", reason="needed", generation=1)
    other.changed("refresh_rejected", "chatgpt", "refresh_dead", 2, token=OLD, reason="exhausted", message="Used up")
    other.add("refresh_ended", outcome="rejected", attempts=0, generation=2, duration=0.1)
    [_, died] = told(journal)
    assert "was sent not at all. The login died." in died
    assert "Process 100 (tool) had stored the tokens that replaced it (rt-2) at 1970-01-12 13:46:47 UTC." in died


def test_it_tells_of_clocks_that_went_back_and_sign_ins_that_failed() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.add("login_completed", success=False, error="it was not finished in time")
    one.at -= 3600.0
    one.add("warned", code="store_unreadable", message="HOME/auth.json is half a file")
    assert told(journal)[1:] == [
        "At 1970-01-12 13:46:43 UTC, a sign-in in process 100 (tool) failed: it was not finished in time.",
        "At 1970-01-12 12:46:44 UTC, process 100 (tool) warned: HOME/auth.json is half a file.",
    ]
    one.at -= 3600.0
    one.add("token_expired", expires_at=1.0)
    assert "The clock of process 100 (tool) went back by 3599 s, to 1970-01-12 11:46:45 UTC." in told(journal)


def test_an_empty_journal_says_so() -> None:
    assert told([]) == ["There are no lines, so nothing is known of what happened."]
    assert make_report(Journal(), NOW).timeline == []
    assert "```mermaid" not in render_page(make_report(Journal(), NOW))


def test_a_report_names_the_first_step_that_is_not_allowed() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.add("sent", token=OLD, attempt=1)
    one.changed("log_out", "chatgpt", "chatgpt", 2)
    report = make_report(Journal(tuple(journal)), NOW)
    assert (report.verdict.first, report.verdict.rule) == (3, "claim before sending")
    page = render_page(report)
    assert "No: the table or rule *claim before sending* does not allow line #3. process 100 (tool) at 1970" in page
    assert "The rule: a refresh token is claimed before it is sent, so that every process knows." in page
    assert "NOT IN THE TABLE" in page


def test_a_page_has_all_parts() -> None:
    page = render_page(make_report(Journal(tuple(dead_login()), unreadable=2, newer=1, faults=("x is a folder",)), NOW))
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        *("# What happened to the login", "## Was each step allowed?", "## Who wrote lines", "## The login"),
        *("## The claim on the refresh token that went wrong, or was used last", "## Timeline"),
    ]
    assert "Yes: the tables allow each of the 15 lines." in page
    assert "- 2 lines cannot be read" in page and "- 1 lines are of a newer release" in page
    assert "- x is a folder" in page
    assert page.count("```mermaid") == 2
    assert "| 3 | 1970-01-12T13:46:43.000Z | process 100 (tool) | a refresh began: the access token expires" in page


def test_lines_that_are_lost_are_named() -> None:
    journal, [one] = writers("a")
    one.starts()
    one.skip()
    one.skip()
    one.add("warned", code="x", message="y")
    assert make_report(Journal(tuple(journal)), NOW).notes == [
        "2 lines of process 100 (tool) are missing before 1970-01-12 13:46:43 UTC"
    ]


def test_the_picture_numbers_what_was_taken() -> None:
    taken = [(3, "free", "claim", "claimed"), (5, "claimed", "lose", "doubtful"), (9, "spent", "claim", "claimed")]
    picture = draw_taken(REFRESH_CLAIM_TABLE, taken)
    assert "    free --> claimed : claim (#35;3)" in picture
    assert "    claimed --> doubtful : lose (#35;5)" in picture
    assert "    spent --> claimed : claim (#35;9) NOT IN THE TABLE" in picture
    assert "    claimed --> spent : settle\n" in picture
    assert "    class doubtful,free,spent reached" in picture and "    class claimed last" in picture
    many = draw_taken(REFRESH_CLAIM_TABLE, [(number, "free", "claim", "claimed") for number in range(1, 10)])
    assert "claim (3 more, #35;4, #35;5, #35;6, #35;7, #35;8, #35;9)" in many
    assert "classDef" not in draw_taken(REFRESH_CLAIM_TABLE, [])


def test_a_long_timeline_shows_its_end() -> None:
    journal, [one] = writers("a")
    for _ in range(MOST_ENTRIES + 50):
        one.add("warned", code="x", message="y")
    page = render_page(make_report(Journal(tuple(journal)), NOW))
    assert "The first 50 lines are left out here: `--json` has them." in page
    assert len(re.findall(r"^\| \d+ \|", page, re.M)) == MOST_ENTRIES


def test_messages_are_plain_text_on_the_page() -> None:
    """A message of an issuer or of another program is untrusted, and the page is shown by GitHub."""
    journal, [one] = writers("a")
    one.starts()
    one.add("warned", code="x", message="<img src=x> | ![a](http://b) `c`\n# d\x1b[31m")
    page = render_page(make_report(Journal(tuple(journal)), NOW))
    assert "\\<img src=x\\> \\| !\\[a\\](http:\u200b//b) \\`c\\` \\# d \\[31m" in page
    assert "\x1b" not in page


HOSTILE = (
    "x\n```\n# PWN <img src=http://e/x> &lt;b&gt; @octocat o/r#12 #12 GH-12 $x^2$ $$y$$ https://evil.example "
    "www.evil.example ~~~ --> [a](b)\u2028\x9b31m\x1b[2J\u202e%%{init: 1}%%"
)


@pytest.mark.parametrize(
    "hidden",
    [
        "\n# PWN",
        "\n```\n#",
        " <img",
        "&lt;",
        "@octocat",
        "#12",
        "GH-12",
        "$",
        "https://",
        "www.",
        "\x9b",
        "\x1b",
        "\u202e",
    ],
)
def test_no_line_of_a_journal_has_a_meaning_on_the_page(hidden: str) -> None:
    """Any program of the user can write to a journal."""
    journal, [one, other] = writers("a", HOSTILE)
    one.add("opened", program=HOSTILE, version=HOSTILE, python=HOSTILE)
    for name in ("trigger", "previous", "state", "kind", "token", "login", "message", "reason"):
        one.add("state_changed", **{"trigger": "log_out", "previous": "chatgpt", "state": "chatgpt", name: HOSTILE})
    for name in ("trigger", "found", "state", "token", "successor", "reason"):
        claim = {"trigger": "claim", "found": "free", "state": "claimed", "token": HOSTILE}
        other.add("claim", **{**claim, name: HOSTILE})
    for what in ("refresh_started", "sent", "answered", "refresh_failed", "refresh_ended", "warned", HOSTILE):
        names = ("reason", "attempt", "delivery", "error", "outcome", "duration", "code", "message", "token")
        other.add(what, **dict.fromkeys(names, HOSTILE))
    page = render_page(make_report(Journal(tuple(journal)), NOW))
    diagram = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    prose, of_diagrams = diagram.sub("", page), diagram.findall(page)
    assert hidden not in prose.replace("\\#", "#")
    assert len(of_diagrams) == 2 and all("PWN" not in one and "octocat" not in one for one in of_diagrams)
    assert page.count("\n```") == 4
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        *("# What happened to the login", "## Was each step allowed?", "## Who wrote lines", "## The login"),
        *("## The claim on the refresh token that went wrong, or was used last", "## Timeline"),
    ]


def test_numbers_that_cannot_be_are_not_read() -> None:
    journal, [one] = writers("a")
    one.starts()
    at, line = one.at, journal[-1]
    for wrong in ({"n": -5}, {"n": 0}, {"n": 10**30}, {"pid": -1}, {"pid": 10**40}, {"at": -1.0}, {"at": 1e300}):
        journal.append(msgspec.structs.replace(line, **wrong))
    one.at = at
    one.add("refresh_started", reason="needed", generation=1)
    one.add("answered", attempt=-1, delivery="not_sent", error="x")
    one.add("lost", lines=-3)
    one.add("refresh_retried", attempt=10**30, wait=-1.0)
    one.add("refresh_ended", outcome="failed", duration=-2.0)
    report = make_report(Journal(tuple(journal)), NOW)
    assert report.notes == ["7 lines cannot be read: a process was killed, the disk was full, or they were forged"]
    assert "was sent not at all" in report.explanation[1]
    said = [entry.says for entry in report.timeline]
    assert said[-3:] == [
        "an unreadable number of events are missing here",
        "will try again in an unreadable number of s (attempt not readable)",
        "the refresh ended after an unreadable number of s: there are no new tokens, and the login is as before",
    ]


def test_lines_that_come_twice_are_not_missing() -> None:
    journal, [one] = writers("a")
    one.starts()
    journal.reverse()
    assert all("-" not in note.split(" lines")[0] for note in make_report(Journal(tuple(journal)), NOW).notes)


def test_a_report_holds_no_digest_and_an_email_only_if_asked() -> None:
    journal = Journal(tuple(dead_login()))
    for shown in (msgspec.json.encode(make_report(journal, NOW)).decode(), render_page(make_report(journal, NOW))):
        assert OLD not in shown and "d" * 16 not in shown
        assert "@" not in shown
    asked = make_report(journal, NOW, {"d" * 16: "person@example.com", "e" * 16: "other@example.com"})
    assert asked.logins == {"login A": "person@example.com"}
    assert "- login A: person@example.com" in render_page(asked)


def test_json_has_the_names_that_the_docs_list() -> None:
    report = msgspec.to_builtins(make_report(Journal(tuple(dead_login())), NOW))
    assert list(report) == [
        *("schema", "release", "madeAt", "explanation", "verdict", "logins", "processes", "timeline", "notes"),
        *("loginSteps", "claimSteps"),
    ]
    assert report["timeline"][3] == {
        "number": 4,
        "at": "1970-01-12T13:46:44.000Z",
        "process": "process 100 (tool)",
        "what": "claim",
        "says": "claimed rt-1, to send it",
    }
