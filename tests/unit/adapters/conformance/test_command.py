"""`authstate verify` as a command: exit statuses, the report, and what may come before its server."""

import json
import sys
from pathlib import Path

import pytest
from support.paths import REPO

from authstate.adapters.cli.main import main
from authstate.adapters.conformance.actions import Outcome
from authstate.adapters.conformance.checks import CHECKS
from authstate.adapters.conformance.differences import documented
from authstate.adapters.conformance.report import Status, as_text, make_report, table_rows

SERVER = [sys.executable, "-S", str(REPO / "tests" / "support" / "account_server.py")]
PAGE = REPO / "docs" / "verify.md"


def test_a_server_that_passes_gives_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--history", "api-key,restart,log-out", "--", *SERVER, "none"]) == 0
    printed = capsys.readouterr().out
    assert "PASSED                 login/api-key/order: The answer comes first" in printed
    assert "0 failed" in printed
    assert "1 of 35 cells" not in printed and "of 35 cells" in printed


def test_a_server_that_fails_gives_1_and_a_transcript(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    arguments = ["--history", "api-key", "--json", "--report", str(file)]
    assert main(["verify", *arguments, "--", *SERVER, "stores for everybody"]) == 1
    assert capsys.readouterr().out == f"Wrote the report to {file}.\n"
    report = json.loads(file.read_text())
    [failed] = [check for check in report["checks"] if check["status"] == "failed"]
    assert failed["name"] == "store/private"
    assert failed["history"] == ["api-key"]
    assert any(line.startswith("> ") and "<api-key 1>" in line for line in failed["transcript"])
    assert report["failed"] is True and report["cells"]["total"] == 35


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--", "no-such-program"], "there is no such program"),
        (["--", sys.executable, "-c", "pass"], "the server cannot be run"),
        (["--history", "nonsense", "--", *SERVER, "none"], "unknown actions (nonsense)"),
        (["--runs", "-1", "--", *SERVER, "none"], "--runs: must be a whole number, 0 or more"),
        (["--jobs", "0", "--", *SERVER, "none"], "--jobs: must be 1 or more"),
        (["--report", "/no/such/folder/file", "--", *SERVER, "none"], "there is no folder /no/such/folder"),
        (["--report", "/", "--", *SERVER, "none"], "--report: / is a folder: name a file"),
        (["--history", "nonsense", "--", "/no/such/program"], "unknown actions (nonsense)"),
    ],
)
def test_a_server_that_cannot_be_run_gives_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_action_that_is_not_possible_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--history", "api-key,given-chatgpt,parent-refuses,refresh-killed,log-out"]
    assert main(["verify", *arguments, "--", *SERVER, "none"]) == 0
    printed = capsys.readouterr().out
    assert "PASSED                 logout/order" in printed and "0 failed" in printed


def test_hypothesis_is_asked_for_if_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "authstate.adapters.conformance.search", raising=False)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert main(["verify", "--", *SERVER, "none"]) == 2
    assert "pip install 'authstate[verify]'" in capsys.readouterr().err


def outcome_of(user_agent: str, **failed: str) -> Outcome:
    found = {name.replace("__", "/").replace("_", "-"): why for name, why in failed.items()}
    return Outcome(("start",), frozenset(), found, frozenset(), (), user_agent)


@pytest.mark.parametrize(
    ("command", "user_agent", "status"),
    [
        ("codex", "authstate-verify/0.93.0 (Linux)", Status.DOCUMENTED),
        ("codex", "authstate-verify/0.171.0 (Linux)", Status.DOCUMENTED),
        ("codex", "authstate-verify/0.80.0 (Linux)", Status.FAILED),
        ("mine", "somebody", Status.FAILED),
        ("authstate", "authstate-verify/0.169.0 (Linux)", Status.FAILED),
        ("python", "authstate-verify/0.169.0 (Linux) authstate (x; 1)", Status.FAILED),
    ],
)
def test_a_documented_difference_is_one_only_of_the_releases_that_it_is_listed_for(
    command: str, user_agent: str, status: Status
) -> None:
    report = make_report([command], 0, [outcome_of(user_agent, input__blank_key="it was stored")])
    [result] = [result for result in report.results if result.name == "input/blank-key"]
    assert result.status is status
    assert report.has_failed == (status is Status.FAILED)
    assert "it was stored" in as_text(report)


def test_the_documented_differences_are_of_checks() -> None:
    for release in ("0.93.0", "0.169.0"):
        assert documented(f"x/{release} (y)").keys() <= CHECKS.keys()
    assert "refresh/permanent/shown" in documented("x/0.93.0 (y)")
    assert "refresh/permanent/shown" not in documented("x/0.169.0 (y)")


def test_the_page_lists_the_checks() -> None:
    _, _, after = PAGE.read_text(encoding="utf-8").partition("<!-- checks -->\n")
    section, _, _ = after.partition("<!-- end of checks -->")
    assert section == f"\n{table_rows()}\n\n"
