"""Measuring programs that speak the account API, side by side in one run, with as little client as can be."""

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple, Self

from support.paths import REPO

TRIES = 5
"""On a busy machine one try may be unlucky: the claim must hold in one of so many."""
RUNS = 7
"""How often a program is started for one measurement."""
_REPORT = REPO / "test-output" / "benchmarks.json"
_INITIALIZE = {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "benchmark", "version": "1.0"}}}
_READ = b'{"id":7,"method":"account/read","params":{"refreshToken":false}}\n'


class Program(NamedTuple):
    """What to start, and its environment."""

    command: Sequence[str]
    environment: dict[str, str]


class Running:
    """A running program, past its first `account/read`. `seconds` is how long that took from the start."""

    def __init__(self, program: Program) -> None:
        self._buffer = b""
        began = perf_counter()
        self._process = subprocess.Popen(
            program.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=program.environment,
            bufsize=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.write(self._stdin, json.dumps(_INITIALIZE).encode() + b"\n")
        self._wait_for(1)
        os.write(self._stdin, b'{"method":"initialized"}\n' + _READ)
        self._wait_for(7)
        self.seconds = perf_counter() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def read_account(self) -> float:
        """Ask `account/read` once; the seconds until its answer was here."""
        began = perf_counter()
        os.write(self._stdin, _READ)
        self._wait_for(7)
        return perf_counter() - began

    def _wait_for(self, number: int) -> None:
        while True:
            while b"\n" not in self._buffer:
                data = os.read(self._stdout, 65536)
                assert data, "the program ended before it answered"
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            message = json.loads(line)
            if message.get("id") == number and "method" not in message:
                assert "result" in message, message
                return


def starts(programs: Mapping[str, Program]) -> dict[str, list[float]]:
    """Seconds of RUNS starts of each, in turns; each was started once before, in this home."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(RUNS + 1):
        for name, program in programs.items():
            with Running(program) as running:
                if number:
                    times[name].append(running.seconds)
    return times


def lower_quartile(samples: list[float]) -> float:
    """A quarter of the samples is below. For a start, which is measured a few times: what disturbs only ever adds."""
    return sorted(samples)[len(samples) // 4]


def assert_not_slower(
    measure: Callable[[], dict[str, list[float]]],
    ours: str,
    theirs: str,
    name: str,
    statistic: Callable[[list[float]], float] = statistics.median,
) -> None:
    """Measure up to TRIES times until the statistic of `ours` is at most that of `theirs`; print and keep the figures.

    The programs are measured in turns, so that what disturbs one disturbs all. A program that is truly slower is slower
    in every try; one that is not may lose a few of them on a busy machine.

    Raises AssertionError with the figures when it never is.
    """
    figures = []
    for _ in range(TRIES):
        times = measure()
        figures.append(keep(name, times))
        if statistic(times[ours]) <= statistic(times[theirs]):
            return
    raise AssertionError(f"{name}: {ours} was slower than {theirs} in each of {TRIES} tries: {figures}")


def keep(name: str, times: dict[str, list[float]]) -> dict[str, Any]:
    """Print the figures, and write them beside those of the other benchmarks. Returns them."""
    figures = {program: _milliseconds(samples) for program, samples in times.items()}
    record(name, figures)
    return figures


def record(name: str, figures: object) -> None:
    """Print figures, and write them beside those of the other benchmarks."""
    print(f"\n{name}: {figures}")
    _REPORT.parent.mkdir(exist_ok=True)
    known = json.loads(_REPORT.read_text()) if _REPORT.exists() else {}
    _REPORT.write_text(json.dumps({**known, name: figures}, indent=2) + "\n")


def _milliseconds(samples: list[float]) -> dict[str, float]:
    ordered = sorted(samples)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 3),
        "least_ms": round(ordered[0] * 1000, 3),
        "p25_ms": round(lower_quartile(ordered) * 1000, 3),
        "p90_ms": round(ordered[int(len(ordered) * 0.9)] * 1000, 3),
        "samples": len(ordered),
    }
