"""The coverage of the state tables: what is committed of it, what is recorded of a process, and what fails a run."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
from support.paths import REPO, TESTS
from support.table_coverage import __main__ as command
from support.table_coverage.cells import Cell, all_cells, reasons
from support.table_coverage.plugin import folder_for
from support.table_coverage.recorder import MISSING, REFUSED, ROW, digest_of
from support.table_coverage.records import COMMITTED, LastRun, Use, Uses, decode, encode_run, read_run, uses_of
from support.table_coverage.report import faults_of, lines_of, stale

from authstate.adapters.cli.state_tables import TABLES

pytestmark = pytest.mark.uncounted

CELLS = all_cells(TABLES)
OWNER = Use("unit", "unit/test_a.py", by_hand=False)
BY_HAND = Use("unit", "unit/test_a.py", by_hand=True)
LOG_OUT = Cell("auth_state", "logged_out", "log_out", ROW)


def committed_text(name: str) -> str:
    return (COMMITTED.parent / name).read_text(encoding="utf-8")


# What is committed


def test_the_committed_coverage_has_every_cell_and_nothing_else() -> None:
    coverage = decode(committed_text("coverage.json"))
    named = [Cell(table, held.state, held.trigger, held.outcome) for table, cells in coverage.items() for held in cells]
    assert named == CELLS, "run the tests of the table, then `python -m support.table_coverage` in tests/"


def test_each_test_file_that_is_named_exists() -> None:
    coverage = decode(committed_text("coverage.json"))
    lists = [files for cells in coverage.values() for held in cells for files in held.held_by.values()]
    assert all(files == sorted(set(files)) for files in lists)
    gone = {file for files in lists for file in files if not (TESTS / file).is_file()}
    assert not gone, "run `python -m support.table_coverage` in tests/"


def test_each_cell_is_held_and_only_those_with_a_reason_by_hand() -> None:
    uses = uses_of(decode(committed_text("coverage.json")))
    assert faults_of(uses, TABLES) == []
    assert stale(uses) == []


def test_the_page_and_the_picture_say_what_the_data_says() -> None:
    for name, text in command.files_of(decode(committed_text("coverage.json"))).items():
        assert committed_text(name) == text, f"run `python -m support.table_coverage` in tests/ ({name})"


# What a run is told


def exercised(use: Use) -> Uses:
    """Every cell, by one test file; those that nobody can reach by hand."""
    explained = reasons()
    return {cell: Counter({BY_HAND if cell in explained else use: 3}) for cell in CELLS}


def test_a_run_that_exercises_every_cell_has_no_fault() -> None:
    assert faults_of(exercised(OWNER), TABLES) == []


def test_a_cell_that_nobody_exercises_is_a_fault() -> None:
    for cell in CELLS:
        uses = exercised(OWNER)
        del uses[cell]
        assert faults_of(uses, TABLES) == [f"{cell.table}: no test exercises {cell}"]


def test_a_cell_that_is_only_exercised_by_hand_needs_a_reason() -> None:
    uses = exercised(OWNER)
    uses[LOG_OUT] = Counter({BY_HAND: 1})
    [fault] = faults_of(uses, TABLES)
    assert "logged_out × log_out (row), by hand" in fault and "unit/test_a.py" in fault
    uses[LOG_OUT][OWNER] = 1
    assert faults_of(uses, TABLES) == []


def test_a_reason_for_a_cell_that_code_reaches_is_stale() -> None:
    cell = next(iter(reasons()))
    uses = exercised(OWNER)
    assert stale(uses) == []
    uses[cell] = Counter({OWNER: 1})
    assert stale(uses) == [cell]
    assert lines_of(uses, TABLES)[-1].startswith(f"note: {cell.table}: {cell} can be reached")


def test_a_reason_for_what_is_no_cell_is_a_fault() -> None:
    without = [table for table in TABLES if table.name != "engine_life"]
    assert any("which is no cell" in fault for fault in faults_of(exercised(OWNER), without))


@pytest.mark.parametrize("second", ["the same states, again", " "])
def test_a_cell_has_one_reason_in_words(second: str, tmp_path: Path) -> None:
    entry = '[[cells]]\ntable = "lease"\ntrigger = "end"\nstates = ["ended"]\nreason = "{}"\n'
    (tmp_path / "reasons.toml").write_text(entry.format("it is over") + entry.format(second))
    with pytest.raises(ValueError, match=r"ended × end .* needs one reason"):
        reasons(tmp_path / "reasons.toml")


def test_the_report_tells_how_often_and_what_only_one_kind_holds() -> None:
    uses = exercised(OWNER)
    uses[LOG_OUT] = Counter({Use("process", "interop/test_b.py", by_hand=False): 1200})
    text = "\n".join(lines_of(uses, TABLES))
    assert "lease: 6 of 6 exercised (unit 6, model 0, process 0), 18 times" in text
    assert "only process (1): logged_out × log_out (row)" in text
    assert "only by hand (5): closed × start, started, start_ended (missing)" in text


# What is recorded of a process

PROGRAM = """
    import os, signal, sys
    from authstate import ApiKey, Policy
    from authstate.adapters.oauth.browser_progress import BrowserProgress
    from authstate.engine.machines.auth_state import AUTH_TABLE, AuthMachine
    from authstate.engine.machines.lease import LEASE_TABLE, Lease, LeaseState
    from authstate.engine.machines.table import shared_machine
    from authstate.engine.model.errors import AuthError
    from authstate.engine.model.events import Listeners
    from authstate.engine.model.policy import LoginMethod
    import msgspec

    def refused(call, *arguments):
        try:
            call(*arguments)
        except AuthError:
            return
        raise AssertionError

    machine = AuthMachine(Policy(LoginMethod.CHATGPT), Listeners())
    for _ in range(5):
        machine.fire("log_out")
    refused(machine.fire, "refresh_rejected")
    refused(machine.fire, "use_api_key", ApiKey.parse("sk-1"))
    refused(machine.check, "use_api_key", ApiKey.parse("sk-1"))
    refused(machine.check, "refresh_rejected", None)
    assert not BrowserProgress().fire("page_shown")
    lease = Lease("ab", "00", "home")
    lease.after("end")
    if not hasattr(os, "fork") or (child := os.fork()) == 0:
        for _ in range(3):
            lease.after("expire")
        sys.exit()  # at the end it writes what it counted, and not what its parent counted before
    os.waitpid(child, 0)

    class Model:
        state = LeaseState.EXPIRED

    shared_machine(LEASE_TABLE).fire(Model(), "end")
    other = msgspec.structs.replace(LEASE_TABLE, title="Another table of this name")
    shared_machine(other).fire(Model(), "end")
    print("before the end", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize(("file", "kind"), [("unit/test_a.py", "process"), ("model/test_a.py", "model")])
def test_what_a_process_fired_survives_sigkill(file: str, kind: str, tmp_path: Path) -> None:
    folder = folder_for(file, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", dedent(PROGRAM)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.returncode) == ("before the end\n", -signal.SIGKILL), ended.stderr
    owner, by_hand = Use(kind, file, by_hand=False), Use(kind, file, by_hand=True)
    assert read_run(tmp_path, TABLES) == {
        LOG_OUT: {owner: 4},  # the fifth was not written: the next line was due at eight
        Cell("auth_state", "logged_out", "refresh_rejected", MISSING): {owner: 2},
        Cell("auth_state", "logged_out", "use_api_key", REFUSED): {owner: 2},
        Cell("browser_login", "waiting", "page_shown", MISSING): {owner: 1},
        Cell("lease", "active", "end", ROW): {owner: 1},
        Cell("lease", "active", "expire", ROW): {owner: 3},
        Cell("lease", "expired", "end", ROW): {by_hand: 1},
    }


def test_a_line_that_a_killed_process_left_unfinished_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "unit+test_a.py").mkdir()
    whole = "\t".join(["%s", "lease", "active", "end", ROW, "owner", "2\n"])
    digest = next(digest_of(table) for table in TABLES if table.name == "lease")
    (tmp_path / "unit+test_a.py" / "7.child").write_text(whole % digest + whole.rstrip() % digest)
    assert read_run(tmp_path, TABLES) == {
        Cell("lease", "active", "end", ROW): {Use("process", "unit/test_a.py", by_hand=False): 2}
    }


# Runs of pytest

CONFTEST = 'pytest_plugins = ["support.table_coverage.plugin"]\n'
PROJECT = f"""
    [tool.pytest.ini_options]
    testpaths = ["tests/unit"]
    pythonpath = ["{TESTS.as_posix()}"]
    addopts = "--import-mode=importlib -p no:cacheprovider --strict-markers"
    markers = ["uncounted", "counted"]
"""
EVERY_CELL = """
    from authstate.adapters.cli.state_tables import TABLES
    from authstate.engine.machines.table import TableMachine
    from authstate.engine.model.errors import NotSignedIn, TransitionRefused
    from support.table_coverage.cells import all_cells, reasons

    # Under a name of authstate, it is an owner.
    OWNER = {"__name__": "authstate.walk"}
    exec("def fire(machine, *arguments): machine.fire(*arguments)", OWNER)

    class Model:
        def __init__(self, state):
            self.state = state

    def test_every_cell():
        machines = {
            table.name: TableMachine(table, {row.guard: lambda model, payload: payload for row in table.rows})
            for table in TABLES
        }
        states = {(table.name, str(state)): state for table in TABLES for state in table.states}
        by_hand = reasons()
        for cell in all_cells(TABLES):
            fire = TableMachine.fire if cell in by_hand else OWNER["fire"]
            refusal = NotSignedIn("a test") if cell.outcome == "refused by guard" else None
            try:
                fire(machines[cell.table], Model(states[cell.table, cell.state]), cell.trigger, refusal)
            except (NotSignedIn, TransitionRefused):
                pass
"""
IN_A_CHILD = """
    import subprocess, sys

    def test_a_child():
        code = "from authstate.engine.machines.lease import Lease; Lease('ab', '00', 'home').after('end')"
        subprocess.run([sys.executable, "-c", code], check=True)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the plugin, and a test file that starts a child."""
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pyproject.toml").write_text(dedent(PROJECT))
    (tmp_path / "tests" / "unit" / "test_child.py").write_text(dedent(IN_A_CHILD))
    return tmp_path


def run_pytest(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it has a run of its own
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # importing the others takes longer than the tests
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)


def last_run(project: Path) -> LastRun:
    return msgspec.json.decode((project / "test-output" / "table-coverage.json").read_bytes(), type=LastRun)


def test_a_whole_run_that_leaves_a_cell_out_fails(project: Path) -> None:
    (project / "tests" / "unit" / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    ended = run_pytest(project, "-p", "xdist", "-n", "2", "--dist", "loadfile")
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout + ended.stderr
    assert "lease: 1 of 6 exercised (unit 0, model 0, process 1), 1 times" in ended.stdout
    assert ended.stdout.count("FAIL ") == len(CELLS) - 1
    assert last_run(project).is_whole


@pytest.mark.parametrize("arguments", [("tests/unit",), ("-k", "child")])
def test_a_run_of_some_tests_says_nothing_and_can_be_added(arguments: tuple[str, ...], project: Path) -> None:
    ended = run_pytest(project, *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "state tables" not in ended.stdout and "FAIL" not in ended.stdout
    run = last_run(project)
    assert not run.is_whole
    assert {use.file for uses in uses_in(run).values() for use in uses} == {"unit/test_child.py"}


def uses_in(run: LastRun) -> dict[Cell, set[Use]]:
    """Who holds each cell, also in a project with other test files than ours."""
    return {
        Cell(table, held.state, held.trigger, held.outcome): {
            Use(kind, file, held.by_hand) for kind, files in held.held_by.items() for file in files
        }
        for table, cells in run.tables.items()
        for held in cells
    }


def test_a_whole_run_that_exercises_every_cell_passes(project: Path) -> None:
    (project / "tests" / "unit" / "test_every_cell.py").write_text(dedent(EVERY_CELL))
    ended = run_pytest(project)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "lease: 6 of 6 exercised (unit 6, model 0, process 1), 7 times" in ended.stdout
    held = uses_in(last_run(project))[Cell("lease", "active", "end", ROW)]
    assert held == {Use("unit", "unit/test_every_cell.py", False), Use("process", "unit/test_child.py", False)}


def test_what_is_marked_is_not_counted(project: Path) -> None:
    path = project / "tests" / "unit" / "test_marked.py"
    marked = f"import pytest\npytestmark = pytest.mark.uncounted\n{dedent(EVERY_CELL)}{dedent(IN_A_CHILD)}"
    path.write_text(marked)
    ended = run_pytest(project, str(path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not (project / "test-output").exists()
    path.write_text(marked.replace("mark.uncounted", "mark.counted"))
    run_pytest(project, str(path))
    assert {use.kind for uses in uses_in(last_run(project)).values() for use in uses} == {"unit", "process"}


# The command


def test_a_run_of_some_tests_is_added_and_a_whole_run_replaces(tmp_path: Path) -> None:
    committed, run = tmp_path / "coverage.json", tmp_path / "run.json"
    here = Path(__file__).relative_to(TESTS).as_posix()
    whole = decode(committed_text("coverage.json"))
    run.write_bytes(encode_run(LastRun(True, whole)))
    assert command.main(run, committed) == 0
    assert decode(committed.read_text(encoding="utf-8")) == whole
    some = {"lease": [msgspec.structs.replace(whole["lease"][0], held_by={"unit": [], "model": [], "process": [here]})]}
    run.write_bytes(encode_run(LastRun(False, some)))
    assert command.main(run, committed) == 0
    added = decode(committed.read_text(encoding="utf-8"))["lease"]
    assert here in added[0].held_by["process"]
    assert added[0].held_by["unit"] == whole["lease"][0].held_by["unit"] and added[1:] == whole["lease"][1:]
    run.write_bytes(encode_run(LastRun(True, some)))
    assert command.main(run, committed) == 1, "nobody holds the other cells"


def test_the_command_says_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    committed, run = tmp_path / "coverage.json", tmp_path / "run.json"
    assert command.main(run, committed) == 1
    run.write_bytes(encode_run(LastRun(False, {})))
    committed.write_text("<<<<<<< HEAD\n")
    assert command.main(run, committed) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "run.json does not exist: run the tests first" in first
    assert "run.json is broken" in second and "run the whole suite" in second
    assert committed.read_text() == "<<<<<<< HEAD\n"


def test_the_run_is_where_git_does_not_see_it() -> None:
    ignored = subprocess.run(["git", "check-ignore", "-q", "test-output/table-coverage.json"], cwd=REPO)
    assert ignored.returncode in (0, 128), "128: this is no working tree of git"
