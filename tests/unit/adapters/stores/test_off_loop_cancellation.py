"""What a call in a disk thread hands on: each kind of error, and of several cancellations the one that ends most."""

import asyncio
from pathlib import Path
from typing import NoReturn

import pytest

from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.off_loop import completed, in_disk_thread, is_idle
from authstate.adapters.stores.permissions import Finding


@pytest.mark.parametrize("kind", [OSError, KeyError, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_no_error_keeps_the_caller_waiting(kind: type[BaseException]) -> None:
    def fail() -> NoReturn:
        raise kind("its own")

    work = in_disk_thread(fail)
    await asyncio.wait((work,), timeout=60)
    assert work.done() and type(work.exception()) is kind and is_idle()


@pytest.mark.parametrize(
    ("messages", "delivered"),
    [
        ([None], None),
        (["scope"], "scope"),
        (["scope", "another scope"], "scope"),
        (["scope", None], None),
        ([None, "scope"], None),
        (["scope", None, "another scope"], None),
    ],
)
async def test_one_cancellation_is_delivered(messages: list[str | None], delivered: str | None) -> None:
    """One with a message ends a scope of anyio; one without ends the task, so it counts most."""
    work: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    noted: list[int] = []

    async def write() -> None:
        noted.append(await completed(work))
        await asyncio.sleep(0)
        raise AssertionError("the cancellation was lost")

    writing = asyncio.create_task(write())
    await asyncio.sleep(0)
    for message in messages:
        writing.cancel() if message is None else writing.cancel(message)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not writing.done()
    work.set_result(7)
    with pytest.raises(asyncio.CancelledError) as raised:
        await writing
    assert noted == [7]
    assert raised.value.args == (() if delivered is None else (delivered,))


@pytest.mark.parametrize("kind", [OSError, SystemExit])
async def test_a_lock_is_released_when_what_comes_after_it_fails(tmp_path: Path, kind: type[BaseException]) -> None:
    class FailingDisk(Disk):
        def findings(self, path: str) -> list[Finding]:
            raise kind

    store, other = AuthJsonStore(tmp_path, disk=FailingDisk()), AuthJsonStore(tmp_path)
    with pytest.raises(kind) as raised:  # its frames keep the lock: one that nobody refers to is released by itself
        await store._take()
    lock = other.home_lock.try_acquire()
    assert lock is not None and raised.tb
    lock.release()
