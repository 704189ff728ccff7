"""The second opinion of a model checker on the refresh protocol, and what ties its model to the code.

docs/model-checker.md explains it. `python -m model.promela NO_CLAIM` in `tests/` shows what Spin finds without a claim.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from model.promela.checks import (
    CHECKS,
    FILES,
    NOT_IN_A_TRACE,
    NOT_MODELLED,
    OF_SIMULATION,
    ONLY_HERE,
)
from model.promela.recorder import CODES, RecordedHistory, Step, TooLarge
from model.promela.spin import Verifier, built, in_words, safeguards
from model.promela.traces import TraceChecker
from model.simulation.campaign import play
from model.simulation.ledger import Violation
from model.simulation.mutants import MUTANTS, mutated
from model.test_simulation_mutants import NOTICED_BY
from support.paths import REPO
from support.real_parts import RealParts

from authstate.adapters.cli.state_tables import TABLES
from authstate.engine.machines.table import Table

SEEDS = range(60)
SAFEGUARDS = {**OF_SIMULATION, **ONLY_HERE}


@pytest.fixture(scope="module")
def at_each_step(real_parts: RealParts, tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    real_parts.spin()
    return built(tmp_path_factory.mktemp("steps"), lasts=False)


@pytest.fixture(scope="module")
def in_the_long_run(real_parts: RealParts, tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    real_parts.spin()
    return built(tmp_path_factory.mktemp("long_run"), lasts=True)


@pytest.fixture(scope="module")
def checker(real_parts: RealParts, tmp_path_factory: pytest.TempPathFactory) -> TraceChecker:
    real_parts.spin()
    return TraceChecker(tmp_path_factory.mktemp("traces"))


@pytest.mark.parametrize("name", CHECKS)
def test_every_promise_holds(name: str, at_each_step: Verifier, in_the_long_run: Verifier) -> None:
    check = CHECKS[name]
    verdict = (in_the_long_run if check.claim else at_each_step).verify(check.options, check.claim)
    assert not verdict.broken, "\n".join((verdict.broken, *verdict.counterexample))
    assert verdict.states > 1_000


@pytest.mark.parametrize("what", SAFEGUARDS)
def test_each_removed_safeguard_is_found(what: str, at_each_step: Verifier, in_the_long_run: Verifier) -> None:
    safeguard = SAFEGUARDS[what]
    verifier = in_the_long_run if safeguard.check.claim else at_each_step
    options = {**safeguard.check.options, "REMOVED": safeguards(FILES)[safeguard.name]}
    verdict = verifier.verify(options, safeguard.check.claim)
    assert safeguard.breaks in verdict.broken
    assert len(verdict.counterexample) > 3


def test_every_safeguard_is_removed_once() -> None:
    """Each guarantee that the simulation removes is a safeguard of the model, or has a reason why it is not."""
    assert set(MUTANTS) == set(OF_SIMULATION) | set(NOT_MODELLED)
    assert sorted(safeguard.name for safeguard in SAFEGUARDS.values()) == sorted(safeguards(FILES))


def recorded(seed: int) -> tuple[Sequence[Step], str]:
    """The trace of a history, and the promise that it breaks."""
    history = RecordedHistory(seed)
    try:
        history.play()
    except Violation as violation:
        return history.recorder.steps, str(violation).splitlines()[0]
    return history.recorder.steps, ""


def test_a_recorded_history_is_the_same_as_without_a_recorder() -> None:
    for seed in (3, 5, 12):
        history = RecordedHistory(seed)
        history.play()
        assert history.timeline.render() == play(seed).timeline.render()
        assert history.recorder.steps


def test_the_model_accepts_what_the_simulation_does(checker: TraceChecker) -> None:
    traces = [recorded(seed)[0] for seed in SEEDS]
    kinds = {step.kind for trace in traces for step in trace}
    assert kinds >= {
        CODES[name] for name in ("CLAIM", "SEND", "ARRIVE", "HEAR", "STORE", "SYNC", "FIRE", "DIE", "POWER")
    }
    followed = checker.followed(traces)
    refused = [
        f"seed {seed}: the model does not allow step {count} of {len(trace)}: {trace[count]}"
        for seed, trace, count in zip(SEEDS, traces, followed, strict=True)
        if count < len(trace)
    ]
    assert not refused, "\n".join(refused)


def first_noticed(what: str) -> Sequence[Step]:
    """The trace of the first history in which the simulation notices that a guarantee is missing."""
    with mutated(what):
        for seed in range(1_000):
            try:
                trace, why = recorded(seed)
            except TooLarge:
                continue
            if any(part in why for part in NOTICED_BY[what].split("|")) and why:
                return trace
    raise AssertionError(f"{what}: no history breaks a promise")


def test_the_model_rejects_what_each_mutant_does(checker: TraceChecker) -> None:
    traces = {what: first_noticed(what) for what in MUTANTS}
    followed = dict(zip(traces, checker.followed(list(traces.values())), strict=True))
    accepted = {what for what, count in followed.items() if count == len(traces[what])}
    assert accepted == set(NOT_IN_A_TRACE)


def test_the_model_rejects_a_trace_in_which_one_step_is_missing(checker: TraceChecker) -> None:
    """Each kind of step of a refresh is needed."""
    trace, _ = recorded(3)
    kinds = ("LOCK", "CLAIM", "SEND", "ARRIVE", "HEAR", "FILLED", "STORE", "SYNC", "UNLOCK")
    first = {kind: next(place for place, step in enumerate(trace) if step.kind == CODES[kind]) for kind in kinds}
    traces = [[*trace[:place], *trace[place + 1 :]] for place in first.values()]
    counts = checker.followed([trace, *traces])
    assert counts[0] == len(trace)
    assert [kind for kind, count, shorter in zip(kinds, counts[1:], traces, strict=True) if count == len(shorter)] == []


def fired(table: Table, state: str, trigger: str, *, agrees: bool) -> str:
    """Promela that fires a trigger in a state and prints the state after it."""
    guards = {row.guard for row in table.rows if row.trigger == trigger and row.guard}
    arguments = ", ".join(["state", *(str(agrees).lower() for _ in guards), "fired"])
    return (
        f"state = {table.name}_{state}; fire_{table.name}_{trigger}({arguments}); "
        f'printf("fired {state} {trigger} %d %e\\n", fired, state);'
    )


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize("agrees", [True, False], ids=["guards agree", "guards refuse"])
def test_the_generated_tables_do_what_the_tables_say(
    table: Table, agrees: bool, real_parts: RealParts, tmp_path: Path
) -> None:
    real_parts.spin()
    cells = [(state, trigger) for state in table.states for trigger in table.triggers]
    lines = [fired(table, state, trigger, agrees=agrees) for state, trigger in cells]
    text = (REPO / "diagrams" / "tables.pml").read_text(encoding="utf-8")
    model = f"{text}\ninit {{ mtype:{table.name} state; bool fired;\n" + "\n".join(lines) + "\n}\n"
    (tmp_path / "cells.pml").write_text(model, encoding="utf-8")
    done = subprocess.run(["spin", "-T", "cells.pml"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    said = [line.split()[1:] for line in done.stdout.splitlines() if line.strip().startswith("fired")]
    expected = []
    for state, trigger in cells:
        rows = [row for row in table.rows if row.trigger == trigger and state in row.sources]
        row = next((row for row in rows if agrees or not row.guard), None)
        expected.append([state, trigger, str(int(row is not None)), f"{table.name}_{row.target if row else state}"])
    assert said == expected, done.stdout + done.stderr


def test_a_counterexample_is_a_list_of_sentences() -> None:
    replayed = "  3:\tproc 1\nstep 4 1 0 0\nstep 7 1 2 1\n<<<<<START OF CYCLE>>>>>\nstep 10 1 2 3\n"
    assert in_words(replayed) == [
        "p1 takes the lock",
        "p1 writes the claim: token 2 is claimed",
        "from here on, again and again:",
        "p1 hears nothing of token 2",
    ]
