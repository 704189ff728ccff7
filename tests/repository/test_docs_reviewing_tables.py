"""docs/reviewing-tables.md shows the report of its example, and its answers are in that report."""

import re

from support.paths import REPO
from support.reviewed_change import reviewed_change

from authstate.adapters.tables.diff_picture import picture
from authstate.adapters.tables.diff_report import as_text

PAGE = (REPO / "docs" / "reviewing-tables.md").read_text(encoding="utf-8")
REMEDY = "run `python -m support.reviewed_change` in tests/, and copy what it prints"


def section(name: str) -> str:
    [found] = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", PAGE, re.S)
    return str(found)


def test_the_page_shows_the_report_and_the_pictures() -> None:
    change = reviewed_change()
    assert section("report") == f"\n```text\n{as_text(change)}```\n\n", REMEDY
    pictures = "".join(f"\n```mermaid\n{picture(table)}```\n" for table in change.changed)
    assert section("pictures") == f"{pictures}\n", REMEDY


def test_there_are_ten_questions_and_ten_answers() -> None:
    questions = re.findall(r"^(\d+)\. .*\?", PAGE.partition("## The answers")[0], re.M)
    answers = re.findall(r"^(\d+)\. ", section("answers"), re.M)
    assert questions == answers == [str(number) for number in range(1, 11)]


def test_the_answers_need_nothing_but_the_report_and_the_pictures() -> None:
    shown = section("report") + section("pictures")
    for name in set(re.findall(r"`(\w+)`", section("answers"))):
        assert re.search(rf"\b{name}\b", shown), name


def test_the_members_of_the_json_are_listed() -> None:
    from authstate.adapters.tables.table_diff import TableDiff

    table = PAGE.partition("The JSON of `--diff`")[2]
    for name in TableDiff.__struct_fields__:
        assert f"`{name}`" in table
