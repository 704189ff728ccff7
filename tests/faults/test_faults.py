"""Every fault of the list happens, and leaves what the list says; and the page shows the list as it is."""

import sys
from collections.abc import Iterator

import pytest
from faults import catalogue as faults
from faults import scenarios
from faults.catalogue import AGAIN, FAULTS, Fault
from faults.scenario_run import IS_ROOT, Outcome, ScenarioRun

NEEDS_ROOT = {"owned_by_another_user", "lock_of_another_user", "sticky_folder", "planted"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScenarioRun]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,issuer.invalid")
    made = ScenarioRun()
    monkeypatch.setenv("XDG_STATE_HOME", str(made.home.parent / "state"))
    with made.stack:
        yield made


@pytest.mark.skipif(sys.platform == "win32", reason="modes, links and mounts are those of Unix")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_fault_leaves_what_the_list_says(fault: Fault, run: ScenarioRun) -> None:
    if fault.name in NEEDS_ROOT and not IS_ROOT:
        pytest.skip("only root can give a file to another user")
    outcome = await getattr(scenarios, fault.name)(run)
    assert outcome == Outcome(fault.state, fault.reads, fault.disk, fault.sent, fault.then == AGAIN)


@pytest.mark.parametrize("name", ["disk_full", "read_only"])
async def test_a_machine_that_mounts_nothing_shows_the_same(
    name: str, run: ScenarioRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "mount", lambda kilobytes: False)
    [fault] = [fault for fault in FAULTS if fault.name == name]
    outcome = await getattr(scenarios, name)(run)
    assert outcome == Outcome(fault.state, fault.reads, fault.disk, fault.sent, works_again=True)


def test_the_page_is_current() -> None:
    page = faults.PAGE.read_text(encoding="utf-8")
    assert faults.page_with_table(page) == page, "run in tests/: python -m faults.catalogue"
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
