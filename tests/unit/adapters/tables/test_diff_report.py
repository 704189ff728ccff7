"""The report of a difference: what it says, and that nobody can write anything else into it."""

import json
import re
from typing import Any

import msgspec
import pytest

from authstate.adapters.cli.state_tables import TABLE_WORDS, TABLES
from authstate.adapters.tables.diff_report import MAX_MARKDOWN, as_json, as_markdown, as_text
from authstate.adapters.tables.report_style import ReportStyle
from authstate.adapters.tables.table_data import TableData, running_tables
from authstate.adapters.tables.table_diff import TablesDiff, compare_tables
from authstate.engine.machines.table import Row, Table

RUNNING = running_tables(TABLES, TABLE_WORDS)
LEASE = RUNNING["lease"]


def but(data: TableData, **changed: Any) -> TableData:
    return msgspec.structs.replace(data, table=msgspec.structs.replace(data.table, **changed))


def compare(old: TableData | None, new: TableData | None) -> TablesDiff:
    return compare_tables("old", {"t": old} if old else {}, "new", {"t": new} if new else {})


def lines(old: TableData | None, new: TableData | None) -> list[str]:
    return [line.strip() for line in as_text(compare(old, new)).splitlines()]


def test_a_removed_row_is_told_with_what_it_meant_and_what_is_refused_now() -> None:
    assert lines(LEASE, but(LEASE, rows=LEASE.table.rows[:1])) == [
        "1 state table differs between `old` and `new`.",
        "",
        "Lease (`t`): 1 row removed",
        "",
        "What was changed",
        "- Row removed: `end` in `active` and `expired` leads to `ended`.",
        "Meaning: its owner, its client or the removal of its account.",
        "",
        "What follows",
        "- Newly refused: `end` in `active` and `expired` is refused with `TransitionRefused`. "
        "Before, it led to `ended`.",
        "- `ended` can no longer be reached.",
        "- `expired` can no longer be left.",
        "",
        "What the names mean",
        "- State `active`: The lease yields access tokens of the account that it was made for. "
        "Limit: until `expires_at`, if the lease has an end; then `expire`.",
        "- State `expired`: Its time is over, and it yields no token.",
        "- State `ended`: Somebody ended it, and it yields no token.",
    ]


def test_a_row_of_a_new_state_is_allowed_where_nothing_was() -> None:
    states = (*LEASE.table.states, "paused")
    rows = (*LEASE.table.rows, Row("pause", ("active",), "paused", "p"), Row("end", ("paused",), "ended", "e"))
    found = lines(LEASE, but(LEASE, states=states, rows=rows))
    assert "Lease (`t`): 2 rows added, 1 state added" in found
    assert "- State added: `paused`." in found
    wanted = "- Newly allowed: `pause` in `active` leads to `paused`. Before, it was refused with `TransitionRefused`."
    assert wanted in found
    assert "- Newly allowed: `end` in `paused` leads to `ended`. Before, there was no such state." in found


def test_what_was_ignored_is_not_called_an_error() -> None:
    browser = RUNNING["browser_login"]
    found = lines(browser, but(browser, rows=browser.table.rows[1:]))
    [told] = [line for line in found if line.startswith("- Newly refused: ")]
    assert told == (
        "- Newly refused: `browser_returned` in `waiting` is ignored: no error is raised, and nothing happens. "
        "Before, it led to `exchanging`."
    )


def test_another_guard_and_another_effect_are_explained() -> None:
    auth = RUNNING["auth_state"]
    first = msgspec.structs.replace(auth.table.rows[0], guard="same_account", effect="clear")
    found = "\n".join(lines(auth, but(auth, rows=(first, *auth.table.rows[1:]))))
    assert "1 row re-guarded and with another effect" in found
    assert "Its guard is `same_account`. Before: `permitted`." in found
    assert "Its effect is `clear`. Before: `install`." in found
    assert (
        "- Guard `permitted`: the configuration allows this way to sign in and this workspace. It refuses with "
        in found
    )
    assert "- Effect `clear`: the session holds no credentials and no failure." in found
    assert "- Events: `StateChanged` always follows `use_api_key`." in found


def test_two_rows_of_a_cell_are_told_in_their_order() -> None:
    auth = RUNNING["auth_state"]
    second = Row("use_api_key", ("logged_out",), "refresh_dead", "m", guard="same_account")
    found = "\n".join(lines(auth, but(auth, rows=(*auth.table.rows, second))))
    assert (
        "leads to `api_key` if `permitted` agrees, with the effect `install`; otherwise it leads to `refresh_dead` if "
        "`same_account` agrees." in found
    )


def test_another_error_for_a_refused_cell_is_told() -> None:
    assert LEASE.words is not None
    other = msgspec.structs.replace(LEASE, words=msgspec.structs.replace(LEASE.words, missing="EngineClosed"))
    found = lines(LEASE, other)
    assert "Lease (`t`): 3 cells refused with another error" in found
    assert (
        "- Refused with another error: `expire` in `expired` and `ended` is refused with `EngineClosed`. "
        "Before, it was refused with `TransitionRefused`." in found
    )


def test_tables_come_go_and_get_another_name() -> None:
    assert "Lease (`t`): table added, with 3 states and 2 rows" in lines(None, LEASE)
    assert "Lease (`t`): table removed, with 3 states and 2 rows" in lines(LEASE, None)
    assert "- `expire` in `active` leads to `expired`. Meaning: its time is over." in lines(None, LEASE)
    renamed = but(LEASE, name="permit", title="Permit")
    diff = compare_tables("old", {"lease": LEASE}, "new", {"permit": renamed})
    assert [table.fate for table in diff.tables] == ["changed"]
    assert "- The table is called `permit`. Before: `lease`." in as_text(diff)
    other = compare_tables("old", {"lease": LEASE}, "new", {"claim": RUNNING["refresh_claim"]})
    assert [table.fate for table in other.tables] == ["added", "removed"]


def test_a_version_without_words_is_compared_without_them() -> None:
    silent = msgspec.structs.replace(LEASE, words=None)
    fewer = but(silent, rows=silent.table.rows[:1])
    assert "- Newly refused: `end` in `active` and `expired` is refused. Before, it led to `ended`." in lines(
        LEASE, fewer
    )
    assert "Lease (`t`): words removed" in lines(LEASE, silent)
    assert "Lease (`t`): words added" in lines(silent, LEASE)


def test_the_json_has_what_differs_and_nothing_that_is_empty() -> None:
    report = json.loads(as_json(compare(LEASE, but(LEASE, rows=LEASE.table.rows[:1]))))
    assert (report["old"], report["new"], report["same"]) == ("old", "new", [])
    [table] = report["changed"]
    assert set(table) == {"name", "fate", "rows", "cells", "no_longer_reached", "newly_final"}
    assert table["rows"][0]["fate"] == "removed"
    assert table["cells"][0]["new_error"] == "TransitionRefused"
    [added] = json.loads(as_json(compare(None, LEASE)))["changed"]
    assert [row["trigger"] for row in added["new"]["rows"]] == ["expire", "end"]


HOSTILE = (
    "@someone ![x](https://example.com/x.png) [click](javascript:x) <img src=x onerror=y> #1 | cell\n# heading\n"
    "```\n</details> www.example.com ~~gone~~ **bold** `@code` user@example.com \x1b[2J\u202eecilA $x$ &amp;"
)


def hostile() -> TableData:
    table = Table(
        HOSTILE, HOSTILE, (HOSTILE, "b"), HOSTILE, (Row(HOSTILE, (HOSTILE,), "b", HOSTILE, HOSTILE, HOSTILE),)
    )
    return TableData(table, None, HOSTILE)


@pytest.mark.parametrize("old", [None, hostile(), but(hostile(), rows=())], ids=["added", "same", "changed"])
def test_a_stranger_can_write_nothing_but_words(old: TableData | None) -> None:
    diff = compare_tables(HOSTILE, {HOSTILE: old} if old else {}, HOSTILE, {HOSTILE: hostile()})
    for text in (as_text(diff), as_markdown(diff)):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
    report, *drawn = re.split(r"^```mermaid\n(.*?)^```$", as_markdown(diff), flags=re.M | re.S)
    prose = re.sub(r"`[^`\n]*`", "", report + "".join(drawn[1::2]))
    assert not re.search(r"[@<>|\[\]~$]|://|www\.", prose), prose
    assert "`" not in prose
    assert re.findall(r"^(?:#.*|\*\*.*|```.*)$", prose, re.M) == re.findall(
        r"^#{3,4} .*$|^\*\*[WI][\w ]+\*\*$", prose, re.M
    )
    for picture in drawn[::2]:
        assert re.fullmatch(r"(?:[\w#;:,\"|(){}\[\]<>. -]+\n)+", picture), picture
        assert re.findall(r"<[^>]*>", picture) == []


@pytest.mark.parametrize("letter", ["\\", "*", "_", "{", "[", "(", "#", "|", "<", "@", "&", "~", "$", ":", "`", "."])
def test_special_characters_stay_what_they_are(letter: str) -> None:
    style = ReportStyle(is_markdown=True)
    assert re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), style.prose(f"a {letter} b")) == f"a {letter} b"
    assert style.prose("wait: 5 (or 6). `a_b`") == "wait: 5 (or 6). `a_b`"
    assert ReportStyle(is_markdown=False).prose(f"a {letter} b") == f"a {letter} b"


def test_a_report_that_is_too_long_for_a_comment_loses_its_pictures_and_then_its_end() -> None:
    def large(count: int, meaning: str) -> TableData:
        states = tuple(f"state_{number}" for number in range(count))
        rows = tuple(Row(f"go_{state}", (state,), state, meaning) for state in states)
        return TableData(Table("t", "T", states, states[0], rows))

    complete, bare, cut = (
        as_markdown(compare(None, large(*size))) for size in ((9, "m"), (400, "m" * 60), (900, "m" * 99))
    )
    assert "```mermaid" in complete
    assert "```mermaid" not in bare and "The pictures are left out" in bare
    assert cut.endswith("\n\nThe report ends here, because it would be too long for a comment.\n")
    assert len(bare) <= MAX_MARKDOWN and len(cut) <= MAX_MARKDOWN
