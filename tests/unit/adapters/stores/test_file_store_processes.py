"""`AuthJsonStore` in several threads and processes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import StoreBusy
from authstate.testing import ManualClock


def temporary(home: Path) -> list[str]:
    return sorted(name for name in os.listdir(home) if name.endswith(".tmp"))


async def test_two_stores_of_one_process_share_the_lock(tmp_path: Path) -> None:
    clock = ManualClock()
    first, second = AuthJsonStore(tmp_path), AuthJsonStore(tmp_path, clock=clock, lock_timeout=5)
    async with first.locked():
        entering = asyncio.ensure_future(second.locked().__aenter__())
        await clock.elapse(6)
        with pytest.raises(StoreBusy, match=r"auth\.json\.authstate\.lock is held by another p\w+.* for more than 5 s"):
            await entering
    async with second.locked():
        pass


async def test_a_lock_may_be_taken_and_freed_in_different_threads(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        async def inside() -> None:
            async with AuthJsonStore(tmp_path).locked():
                entered.set()
                await asyncio.to_thread(leave.wait)

        asyncio.run(inside())

    thread = threading.Thread(target=hold)
    thread.start()
    await asyncio.to_thread(entered.wait)
    with pytest.raises(StoreBusy):
        await AuthJsonStore(tmp_path, lock_timeout=0).locked().__aenter__()
    leave.set()
    thread.join()
    async with AuthJsonStore(tmp_path, lock_timeout=0).locked():
        pass


HOLDER = """
import asyncio, sys
from authstate.adapters.stores.file_store import AuthJsonStore
async def main():
    async with AuthJsonStore(sys.argv[1]).locked() as held:
        await held.prepare()
        print("held", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def start(program: str, home: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE)


async def test_another_process_is_named_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    holder = start(HOLDER, tmp_path)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(StoreBusy) as caught:
            await AuthJsonStore(tmp_path, lock_timeout=0).locked().__aenter__()
        named = f"process {holder.pid} " in str(caught.value)
        assert named or "another process" in str(caught.value)
        if sys.platform == "linux":
            assert named
    finally:
        holder.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert len(temporary(tmp_path)) == 1
    async with AuthJsonStore(tmp_path, lock_timeout=0).locked():
        assert temporary(tmp_path) == []


COUNTER = """
import asyncio, sys
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.engine.model.credentials import ApiKey
async def main():
    for _ in range(10):
        async with AuthJsonStore(sys.argv[1]).locked() as held:
            old = await held.load()
            await held.save(ApiKey.parse("sk-" + str(int(old.key.reveal()[3:]) + 1)))
asyncio.run(main())
"""


async def test_no_update_of_many_processes_is_lost(tmp_path: Path) -> None:
    store = AuthJsonStore(tmp_path)
    async with store.locked() as held:
        await held.save(ApiKey.parse("sk-0"))
    processes = [start(COUNTER, tmp_path) for _ in range(4)]
    while any(process.poll() is None for process in processes):
        assert isinstance(await store.load(), ApiKey)
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    assert await store.load() == ApiKey.parse("sk-40")
