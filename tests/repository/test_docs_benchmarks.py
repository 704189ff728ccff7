"""docs/benchmarks.md has the table that `python -m benchmarks` prints: its commands, groups and benchmarks."""

import re

import pytest
from benchmarks.__main__ import GROUPS, main, table
from benchmarks.comparison import ADDED, Comparison, PeerMissing, compare, with_difference
from support.paths import REPO

PAGE = (REPO / "docs" / "benchmarks.md").read_text(encoding="utf-8")
ROWS = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in PAGE.splitlines() if line[:2] == "| "]
GROUP_ROWS = [row for row in ROWS if row[0].startswith("`")]
RESULTS = [row for row in ROWS if len(row) == 5]


def test_every_group_is_described_and_exists() -> None:
    assert [row[0].strip("`") for row in GROUP_ROWS] == list(GROUPS)


def test_every_benchmark_of_a_group_is_in_the_table() -> None:
    assert RESULTS[0] == ("benchmark", "contender", "median", "quartiles", "ratio")
    assert {row[0] for row in RESULTS[1:]} == {name for group in GROUPS.values() for name in group.names}


def test_the_page_says_when_where_and_how() -> None:
    assert re.search(r"^20\d\d-\d\d-\d\d; \d+ cores, \w+ \w+, CPython 3\.\d+\.\d+$", PAGE, re.MULTILINE)
    assert "python -m benchmarks" in PAGE
    assert "pip install -e '.[bench]'" in PAGE


def test_every_option_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert {option for option in re.findall(r"--\w+", capsys.readouterr().out) if f"`{option}" not in PAGE} == {
        "--help"
    }


def test_contenders_take_turns_and_one_that_is_missing_is_named() -> None:
    turns: list[str] = []

    def contender(name: str, value: float) -> object:
        def sample() -> float:
            turns.append(name)
            return value

        return lambda: sample

    def missing() -> object:
        raise PeerMissing("it is not installed")

    made: dict[str, object] = {"authstate": contender("a", 2.0), "peer": contender("p", 4.0), "other": missing}
    compared = with_difference(compare("speed", "ms", made, 2), "peer")  # type: ignore[arg-type]
    assert turns == ["a", "p"] * 3
    assert list(compared.rows()) == [
        ("authstate", "2 ms", "2 to 2", ""),
        ("peer", "4 ms", "4 to 4", "0.5"),
        (ADDED, "-2 ms", "-2 to -2", ""),
        ("other", "skipped: it is not installed", "", ""),
    ]
    assert compared.as_json()["contenders"]["peer"]["median"] == 4.0


def test_the_table_is_markdown_and_ours_may_be_missing() -> None:
    lines = table([Comparison("speed", "ms", "authstate", {"peer": [1.0]}, {"authstate": "no"})]).splitlines()
    assert len(lines) == 4
    assert set(lines[1]) == {"|", "-"}
    assert lines[2].split("|")[1:4] == [" speed     ", " peer      ", " 1 ms        "]
