"""How late the event loop is while many engines refresh at once, over HTTP with an issuer in another process.

As test_loop_lag.py, but with the parts of a real program. The store with threads is compared, in turns, with one whose
disk works in the event loop's thread, and with one in memory: what is late there is late because of HTTP.

A profile of the event loop's thread (its CPU time, 400 refreshes, the store with threads) shows where the time goes:
httpx, httpcore, h11, anyio and asyncio with the standard library use about 80 %, the engine 7 %, the store 6 %. No disk
work is in it. The lag is the time that the HTTP client needs for 200 requests that begin at once.
"""

import threading
from collections import Counter
from pathlib import Path
from time import perf_counter

import pytest
from benchmarks.loop_lag import figures_of, lags_of_refreshes
from benchmarks.side_by_side import keep
from support.prompt_disk import PromptDisk

from authstate import AuthEngine, AuthJsonStore, AuthState
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.stores.disk import Disk
from authstate.adapters.testing.loopback_home import LoopbackHome
from authstate.engine.ports import CredentialStore
from authstate.testing import LoopbackIssuer, MemoryStore

ENGINES = 200
ROUNDS = 3
SINGLE = 60


class CountingDisk(Disk):
    """A disk that counts its syncs by thread."""

    def __init__(self) -> None:
        self.syncs: Counter[str] = Counter()

    def sync(self, path: str) -> None:
        self.syncs[threading.current_thread().name] += 1
        super().sync(path)

    def sync_folder(self, folder: str) -> None:
        self.syncs[threading.current_thread().name] += 1
        super().sync_folder(folder)


class CountingPromptDisk(CountingDisk, PromptDisk):
    """The same, in the event loop's thread."""


DISKS = {"threads": CountingDisk, "in-the-loop": CountingPromptDisk, "memory": CountingDisk}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


async def engines_on(folder: Path, count: int, disk: Disk, issuer: LoopbackIssuer) -> list[AuthEngine]:
    """Started engines, each on a home of its own, with one client for all."""
    authority = HttpTokenAuthority(issuer.url, "benchmark", refresh_url=issuer.refresh_url)
    engines = []
    for number in range(count):
        home = LoopbackHome(folder / str(number), issuer)
        home.sign_in(email=f"{number}@example.com", account_id=f"{folder.name}-{number}")
        store: CredentialStore = AuthJsonStore(home.path, disk=disk)
        if folder.name == "memory":
            store = MemoryStore(await store.load())
        engines.append(AuthEngine(store, authority))
        await engines[-1].start()
        assert engines[-1].session.state is AuthState.CHATGPT, engines[-1].session.failure
    return engines


def assert_all_refreshed(issuer: LoopbackIssuer, refreshes: int) -> None:
    """Check that each refresh reached the issuer: one that does nothing is fast."""
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (refreshes, 0)


async def test_two_hundred_refreshes_at_once(tmp_path: Path) -> None:
    disks = {name: disk() for name, disk in DISKS.items()}
    lags: dict[str, list[float]] = {name: [] for name in DISKS}
    seconds: dict[str, list[float]] = {name: [] for name in DISKS}
    with LoopbackIssuer() as issuer:
        engines = {name: await engines_on(tmp_path / name, ENGINES, disk, issuer) for name, disk in disks.items()}
        for disk in disks.values():
            disk.syncs.clear()
        for _ in range(ROUNDS):
            for name, group in engines.items():
                began = perf_counter()
                lags[name] += await lags_of_refreshes(group)
                seconds[name].append(perf_counter() - began)
        assert_all_refreshed(issuer, ENGINES * ROUNDS * len(DISKS))
        for group in engines.values():
            for one in group:
                await one.close()
    keep(f"{ENGINES} refreshes at once over HTTP", seconds)
    for name, found in lags.items():
        late = sum(lag for lag in found if lag > 0.02) / sum(seconds[name])
        print(f"lag, {name}: {figures_of(found)}; {late:.0%} of the time in lags over 20 ms; {len(found)} looks")
        main = disks[name].syncs[threading.main_thread().name]
        total = sum(disks[name].syncs.values())
        print(f"syncs, {name}: {main} of {total} in the loop, {total / ENGINES / ROUNDS:.1f} a refresh")
    assert sum(disks["threads"].syncs.values()) == sum(disks["in-the-loop"].syncs.values()) > 0
    assert disks["threads"].syncs[threading.main_thread().name] == 0


async def test_one_refresh(tmp_path: Path) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in DISKS}
    with LoopbackIssuer() as issuer:
        engines = {name: (await engines_on(tmp_path / name, 1, disk(), issuer))[0] for name, disk in DISKS.items()}
        for number in range(SINGLE):
            for name, engine in list(engines.items())[:: 1 if number % 2 else -1]:
                began = perf_counter()
                await engine.refresh()
                seconds[name].append(perf_counter() - began)
        assert_all_refreshed(issuer, SINGLE * len(DISKS))
        for engine in engines.values():
            await engine.close()
    keep("one refresh over HTTP", seconds)
