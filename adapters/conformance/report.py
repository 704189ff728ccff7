"""The report of a run: what a person reads, and the same as JSON."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from authstate.adapters.conformance.actions import Outcome
from authstate.adapters.conformance.checks import CHECKS
from authstate.adapters.conformance.differences import documented
from authstate.adapters.conformance.scenarios import CELLS, UNREACHABLE
from authstate.engine.model.states import AuthState, Trigger

_NOT_REACHED = "no history got as far as this, because it is not asked for, or another check failed before"


class Status(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    DOCUMENTED = "differs as documented"
    NOT_APPLICABLE = "not applicable"


class Result(NamedTuple):
    """One line of the report.

    Attributes:
        reason: why it failed, differs or is not applicable.
        outcome: the shortest history that failed.
    """

    name: str
    status: Status
    reason: str = ""
    outcome: Outcome | None = None


class Report(NamedTuple):
    """A whole run."""

    command: tuple[str, ...]
    user_agent: str
    seed: int
    histories: int
    results: tuple[Result, ...]
    covered: frozenset[tuple[AuthState, Trigger]]

    @property
    def has_failed(self) -> bool:
        """Whether a check failed that is not a documented difference."""
        return any(result.status is Status.FAILED for result in self.results)


def make_report(command: Sequence[str], seed: int, outcomes: Sequence[Outcome]) -> Report:
    """Make the report from the outcomes of all histories."""
    user_agent = next((outcome.user_agent for outcome in outcomes if outcome.user_agent), "")
    is_ours = Path(command[0]).name.startswith("authstate")  # behind `wrap`, `userAgent` is that of codex
    known = {} if is_ours else documented(user_agent)
    results = []
    missing = dict(outcome.not_applicable for outcome in outcomes if outcome.not_applicable)
    for name in CHECKS:
        failures = [outcome for outcome in outcomes if name in outcome.failed]
        if failures:
            shortest = min(failures, key=lambda outcome: len(outcome.actions))
            if name in known:
                results.append(Result(name, Status.DOCUMENTED, known[name], shortest))
            else:
                results.append(Result(name, Status.FAILED, shortest.failed[name], shortest))
        elif any(name in outcome.passed for outcome in outcomes):
            results.append(Result(name, Status.PASSED))
        else:
            why = next((why for area, why in missing.items() if name.startswith(area)), _NOT_REACHED)
            results.append(Result(name, Status.NOT_APPLICABLE, why))
    covered = frozenset().union(*(outcome.covered for outcome in outcomes))
    return Report(tuple(command), user_agent, seed, len(outcomes), tuple(results), covered)


def as_text(report: Report) -> str:
    """Return the report for a person."""
    counts = {status: sum(result.status is status for result in report.results) for status in Status}
    lines = [
        f"authstate verify -- {' '.join(report.command)}",
        f"server: {report.user_agent}",
        f"histories: {report.histories}, seed {report.seed}",
        f"checks: {', '.join(f'{count} {status}' for status, count in counts.items())}",
        _cells(report),
        "",
    ]
    for result in report.results:
        lines.append(f"{result.status.upper():<22} {result.name}: {CHECKS[result.name].sentence}")
        if result.status is not Status.PASSED:
            lines.append(f"{'':<22} {result.reason}")
    for result in report.results:
        if result.status in (Status.FAILED, Status.DOCUMENTED) and result.outcome is not None:
            lines += ["", *_failure(result, result.outcome)]
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as a JSON object."""
    return {
        "command": list(report.command),
        "userAgent": report.user_agent,
        "seed": report.seed,
        "histories": report.histories,
        "failed": report.has_failed,
        "cells": {
            "total": len(CELLS),
            "covered": len(report.covered),
            "unreachable": [
                {"state": state, "trigger": trigger, "reason": why} for (state, trigger), why in UNREACHABLE.items()
            ],
            "missed": [{"state": state, "trigger": trigger} for state, trigger in _missed(report)],
        },
        "checks": [
            {
                "name": result.name,
                "sentence": CHECKS[result.name].sentence,
                "source": CHECKS[result.name].source,
                "status": result.status,
                "reason": result.reason,
                "found": result.outcome.failed[result.name] if result.outcome else None,
                "history": list(result.outcome.actions) if result.outcome else None,
                "transcript": [f"{sign} {text}" for sign, text in result.outcome.transcript]
                if result.outcome
                else None,
            }
            for result in report.results
        ],
    }


def _missed(report: Report) -> list[tuple[AuthState, Trigger]]:
    return [cell for cell in CELLS if cell not in report.covered and cell not in UNREACHABLE]


def _cells(report: Report) -> str:
    text = f"state table: {len(report.covered)} of {len(CELLS)} cells"
    for (state, trigger), why in UNREACHABLE.items():
        text += f"; {trigger} in {state} cannot be reached over this API, because {why}"
    if missed := _missed(report):
        text += "; not compared, because a check failed before: "
        text += ", ".join(f"{trigger} in {state}" for state, trigger in missed)
    return text


def _failure(result: Result, outcome: Outcome) -> list[str]:
    check = CHECKS[result.name]
    return [
        f"{result.name} {result.status}",
        f"  requirement: {check.sentence} ({check.source})",
        f"  found: {outcome.failed[result.name]}",
        f"  replay: authstate verify --history {','.join(outcome.actions)} -- COMMAND",
        *(f"    {sign} {text}" for sign, text in outcome.transcript),
    ]


def table_rows() -> str:
    """Return the table of the checks, for the docs."""
    rows = [f"| `{check.name}` | {check.sentence} | {check.source} |" for check in CHECKS.values()]
    return "\n".join(["| check | what is checked | stated in |", "|---|---|---|", *rows])
