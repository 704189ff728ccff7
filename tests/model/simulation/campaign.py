"""Many seeds, or whole scopes, in worker processes, and their figures."""

import gc
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple, Protocol

from model.simulation.enumeration import Enumeration, Figures
from model.simulation.history import History
from model.simulation.ledger import Violation
from model.simulation.scheduler import Scheduler
from model.simulation.small_scope import Scope
from model.simulation.timeline import Timeline
from support.paths import REPO

OUTPUT = REPO / "test-output"
WORKERS = 2
Scopes = Mapping[str, tuple[Scope, ...]]
"""Scopes by what they are. One in several parts is one scope: what may go wrong is shared out among them."""
SCOPES: Scopes = {
    "two processes with two callers each, and one crash": (
        Scope(mishaps=("kill p1", "power")),
        Scope(mishaps=("kill p2",)),
    ),
    "two processes with one caller each, and one SIGTERM": (
        Scope(calls=(("authorize",), ("authorize",)), mishaps=("terminate p1",)),
    ),
    "one process with two callers, and one of them cancelled": (
        Scope(calls=(("authorize", "refresh"), ()), mishaps=("cancel p1",)),
    ),
}
_THREE_CALLERS = (("authorize", "authorize"), ("authorize",))
SMALLER_SCOPES: Scopes = {
    "two processes with three callers, and one crash": (
        Scope(calls=_THREE_CALLERS, mishaps=("kill p1", "power")),
        Scope(calls=_THREE_CALLERS, mishaps=("kill p2",)),
    ),
    **dict(list(SCOPES.items())[1:]),
}
"""What takes a tenth of the time of `SCOPES`."""
_CHUNK = 250


class Playable(Protocol):
    """A history."""

    counts: Counter[str]
    scheduler: Scheduler
    timeline: Timeline

    def play(self) -> None:
        """Run it to its end. Raises Violation."""


class Result(NamedTuple):
    """What some seeds brought."""

    counts: Counter[str]
    failures: list[tuple[int, str]]
    """Seed, and the broken promise with its timeline."""
    digest: str
    """Of every line of every timeline."""


def play(seed: int) -> History:
    """One history. Raises Violation."""
    history = History(seed)
    history.play()
    return history


def play_all(seeds: Iterable[int], kind: Callable[[int], Playable] = History) -> Result:
    """Some histories of a kind, one after the other."""
    gc.collect()
    gc.freeze()
    counts: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    digest = hashlib.sha256()
    for seed in seeds:
        history = kind(seed)
        try:
            history.play()
        except Violation as violation:
            failures.append((seed, str(violation)))
        counts.update(history.counts)
        counts["seeds"] += 1
        counts["steps"] += history.scheduler.steps
        counts["crashes"] += history.counts["kills"] + history.counts["power cuts"]
        digest.update(history.timeline.render().encode())
    return Result(counts, failures, digest.hexdigest())


def in_workers(work: Callable[[range], Result], seeds: range) -> list[Result]:
    """The seeds in chunks, on all workers."""
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, chunks))


def campaign(seeds: range, kind: Callable[[int], Playable] = History) -> Result:
    """The histories of all the seeds."""
    results = in_workers(partial(play_all, kind=kind), seeds)
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.counts)
    digest = hashlib.sha256("".join(result.digest for result in results).encode()).hexdigest()
    return Result(counts, [failure for result in results for failure in result.failures], digest)


def write_figures(name: str, figures: dict[str, object]) -> None:
    """Keep figures beside those of the other tests, and print them."""
    OUTPUT.mkdir(exist_ok=True)
    text = json.dumps(figures, indent=2, sort_keys=True)
    (OUTPUT / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"{name}: {text}")


def timed_campaign(seeds: range, kind: Callable[[int], Playable] = History) -> tuple[Result, float]:
    """The histories of all the seeds, and how many seconds they took."""
    began = time.perf_counter()
    return campaign(seeds, kind), time.perf_counter() - began


def enumerated(scopes: Scopes = SCOPES) -> dict[str, Figures]:
    """Every history of every scope. Raises Violation."""
    parts = [(name, scope) for name, parts in scopes.items() for scope in parts]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        figures = list(pool.map(_every_history, [scope for _, scope in parts]))
    found: dict[str, Figures] = {}
    for (name, _), part in zip(parts, figures, strict=True):
        found[name] = found[name].with_other_mishaps(part) if name in found else part
    return found


def _every_history(scope: Scope) -> Figures:
    return Enumeration(scope).run()
