"""Comparing authstate with its peers in one run: contenders take turns, so that what disturbs one disturbs all."""

import statistics
from collections.abc import Callable, Iterable, Mapping
from time import thread_time
from typing import Any, NamedTuple

OURS = "authstate"
ADDED = "added by authstate"
"""The row of the differences between authstate and the other contender of its round."""


class PeerMissing(Exception):
    """A peer cannot be measured here. The message says why."""


class Comparison(NamedTuple):
    """What one benchmark measured."""

    name: str
    unit: str
    ours: str
    """The contender that the others are compared with."""
    samples: Mapping[str, list[float]]
    """For each contender, in the unit."""
    missing: Mapping[str, str]
    """For each contender that was left out, the reason."""

    def rows(self) -> Iterable[tuple[str, str, str, str]]:
        """The contender, the median, the quartiles, and the median of ours divided by it."""
        ours = statistics.median(self.samples[self.ours]) if self.ours in self.samples else None
        for name, samples in self.samples.items():
            ordered = sorted(samples)
            median = statistics.median(ordered)
            quartiles = f"{_short(ordered[len(ordered) // 4])} to {_short(ordered[len(ordered) * 3 // 4])}"
            ratio = "" if name in (self.ours, ADDED) or ours is None or not median else f"{ours / median:.2g}"
            yield name, f"{_short(median)} {self.unit}", quartiles, ratio
        for name, reason in self.missing.items():
            yield name, f"skipped: {reason}", "", ""

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        figures = {
            name: {"median": statistics.median(samples), "least": min(samples), "samples": sorted(samples)}
            for name, samples in self.samples.items()
        }
        return {"unit": self.unit, "ours": self.ours, "contenders": figures, "missing": dict(self.missing)}


def compare(
    name: str, unit: str, contenders: Mapping[str, Callable[[], Callable[[], float]]], rounds: int, ours: str = OURS
) -> Comparison:
    """Prepare every contender, and then measure them in turns.

    Args:
        name: the name of the benchmark.
        unit: of the samples.
        contenders: for each name, a function that prepares it and returns the function that takes one sample. It raises
            PeerMissing, ImportError or AttributeError if this contender cannot be measured.
        rounds: how many samples are taken of each, after one that does not count.
        ours: see `Comparison.ours`.
    """
    ready: dict[str, Callable[[], float]] = {}
    missing: dict[str, str] = {}
    for contender, prepare in contenders.items():
        try:
            ready[contender] = prepare()
        except PeerMissing as error:
            missing[contender] = str(error)
        except ImportError as error:
            missing[contender] = f"{error.name or error} is not installed"
        except AttributeError as error:
            missing[contender] = f"this version has no {error.name}"
    samples: dict[str, list[float]] = {contender: [] for contender in ready}
    for number in range(rounds + 1):
        for contender, sample in ready.items():
            value = sample()
            if number:
                samples[contender].append(value)
    return Comparison(name, unit, ours, samples, missing)


def with_difference(compared: Comparison, base: str) -> Comparison:
    """Return the comparison with a row more: what ours costs more than `base`, round by round."""
    if not {compared.ours, base} <= compared.samples.keys():
        return compared
    pairs = zip(compared.samples[compared.ours], compared.samples[base], strict=True)
    return compared._replace(samples={**compared.samples, ADDED: [ours - theirs for ours, theirs in pairs]})


def microseconds_of(run: Callable[[int], object], calls: int = 1000) -> Callable[[], float]:
    """Return a function that takes a sample: the microseconds of one of so many calls, which `run` makes.

    They are CPU time of this thread: nothing here waits, and other programs of the machine then count less.
    """

    def sample() -> float:
        began = thread_time()
        run(calls)
        return (thread_time() - began) / calls * 1e6

    return sample


def repeated(call: Callable[[], object]) -> Callable[[int], None]:
    """Return a function that makes a call so many times."""

    def run(calls: int) -> None:
        for _ in range(calls):
            call()

    return run


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
