"""How late the event loop is while many engines refresh at once."""

import asyncio
import statistics
from collections.abc import Sequence
from time import perf_counter

from authstate import AuthEngine

TICK = 0.001
"""Seconds between two looks at the loop."""


async def lags_of_refreshes(engines: list[AuthEngine]) -> list[float]:
    """Refresh all engines at once.

    Returns:
        How much later than asked for each of many short sleeps ended meanwhile, in seconds, the least first. The last
        one is a sleep that begins before the refreshes end, so a loop that stands still is seen as well.
    """
    found: list[float] = []
    is_over = False

    async def measure() -> None:
        while not is_over:
            began = perf_counter()
            await asyncio.sleep(TICK)
            found.append(perf_counter() - began - TICK)

    measuring = asyncio.ensure_future(measure())
    await asyncio.sleep(TICK)
    await asyncio.gather(*(engine.refresh() for engine in engines))
    is_over = True
    await measuring
    return sorted(found)


def percentile(lags: Sequence[float], percent: int) -> float:
    """Return the lag that so many percent of the looks did not exceed."""
    return statistics.quantiles(lags, n=100, method="inclusive")[percent - 1]


def figures_of(lags: Sequence[float]) -> str:
    """Return the lags for a person."""
    named = {"median": percentile(lags, 50), "99th": percentile(lags, 99), "most": max(lags)}
    return ", ".join(f"{name} {lag * 1e3:.1f} ms" for name, lag in named.items())
