"""Opens a pool of many accounts, each with a home on disk, and prints what that costs, as JSON. Run by test_pool.py."""

import asyncio
import gc
import json
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

from authstate import AuthEngine, EnginePool, PoolSettings
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.testing import FakeAuthority, make_tokens

IDLE = 3.0
"""Seconds that the pool is watched while nothing happens."""


def resident() -> float:
    """The resident memory of this process, in kB."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    raise RuntimeError("this system does not say how much memory a process has")


async def prepare(folder: Path, accounts: int) -> None:
    """Sign in to each account. Real tokens are about three times as long as those of the fakes."""
    for number in range(accounts):
        tokens = make_tokens(email=f"{'x' * 1500}{number}@example.com", account_id=f"org-{number}")
        async with AuthJsonStore(folder / str(number)).locked() as held:
            await held.save(tokens)


async def measure(folder: Path, accounts: int) -> dict[str, float]:
    await prepare(folder, accounts + 1)
    authority = FakeAuthority()

    def open_engine(account: int) -> AuthEngine:
        return AuthEngine(AuthJsonStore(folder / str(account)), authority)

    pool = EnginePool(open_engine, settings=PoolSettings(most_open=accounts + 1))

    async def use(account: int) -> float:
        began = perf_counter()
        async with pool.engine(account) as engine:
            await engine.authorization()
        return perf_counter() - began

    await use(accounts)  # loads the modules
    before = resident()
    opening = [await use(account) for account in range(accounts)]
    after = resident()
    reusing = [await use(account) for account in range(accounts)]
    assert (pool.metrics().open, pool.metrics().in_use) == (accounts + 1, 0)
    tasks = len(asyncio.all_tasks()) - 1
    busy = process_time()
    await asyncio.sleep(IDLE)
    busy = process_time() - busy
    began = perf_counter()
    pool.metrics()
    scraped = perf_counter() - began
    began = perf_counter()
    await pool.close()
    return {
        "growth_mb": (after - before) / 1024,
        "kb_per_engine": (after - before) / accounts,
        "open_ms": statistics.median(opening) * 1000,
        "reuse_us": statistics.median(reusing) * 1e6,
        "tasks": tasks,
        "idle_cpu_ms": busy * 1000,
        "metrics_ms": scraped * 1000,
        "close_ms": (perf_counter() - began) * 1000,
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        print(json.dumps(asyncio.run(measure(Path(home), int(sys.argv[1])))))
