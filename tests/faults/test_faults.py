"""Each fault of the catalogue leads to what the catalogue says, and docs/reliability.md shows the catalogue."""

import sys
from collections.abc import Iterator

import pytest
from faults.catalogue import AGAIN, FAULTS, PAGE, Fault, page_with_table, words_of_report
from faults.scenario_run import IS_ROOT, ScenarioResult, ScenarioRun
from faults.scenarios import SCENARIOS

from authstate.adapters.report.replay import replay

NEEDS_ROOT = {
    *("owned_by_another_user", "lock_of_another_user"),
    *("file_of_root_in_sticky_folder", "file_planted_by_another_user"),
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScenarioRun]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,issuer.invalid")
    made = ScenarioRun()
    monkeypatch.setenv("XDG_STATE_HOME", str(made.home.parent / "state"))
    with made.stack:
        yield made


@pytest.mark.skipif(sys.platform == "win32", reason="modes, links and mounts are those of Unix")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_fault_leads_to_what_the_catalogue_says(fault: Fault, run: ScenarioRun) -> None:
    if fault.name in NEEDS_ROOT and not IS_ROOT:
        pytest.skip("only root can give a file to another user")
    result = await SCENARIOS[fault.name](run)
    assert result == ScenarioResult(fault.state, fault.message, fault.disk, fault.sent, fault.then == AGAIN)
    assert words_of_report(fault) in run.reported()
    assert replay(run.lines()).refusals == ()


@pytest.mark.parametrize("name", ["disk_full", "file_system_read_only"])
async def test_the_result_is_the_same_where_nothing_can_be_mounted(
    name: str, run: ScenarioRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "mount_home", lambda kilobytes: False)
    [fault] = [fault for fault in FAULTS if fault.name == name]
    result = await SCENARIOS[name](run)
    assert result == ScenarioResult(fault.state, fault.message, fault.disk, fault.sent, works_again=True)


def test_the_page_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page_with_table(page) == page, "run in tests/: python -m faults.catalogue"


def test_each_scenario_is_one_fault() -> None:
    assert sorted(SCENARIOS) == sorted(fault.name for fault in FAULTS)
