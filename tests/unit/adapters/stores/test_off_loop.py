"""Writes run in threads, to their end, and the event loop goes on meanwhile."""

import asyncio
import os
import subprocess
import sys
import threading
from contextvars import ContextVar
from pathlib import Path

import anyio
import pytest

from authstate import AuthEngine, AuthError, AuthJsonStore, StoreUnavailable
from authstate.adapters.stores import off_loop
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.off_loop import completed, in_disk_thread
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState
from authstate.testing import FakeAuthority, make_tokens


class SlowDisk(Disk):
    """A disk whose syncs wait until they are let go, and that notes which thread syncs."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.began = threading.Event()
        self.threads: list[str] = []

    def sync(self, path: str) -> None:
        self.threads.append(threading.current_thread().name)
        self.began.set()
        assert self.may_end.wait(60)
        super().sync(path)


CLAIM = RefreshClaim("fingerprint", RefreshClaimState.CLAIMED, at=1.0)


async def until_it_began(disk: SlowDisk) -> None:
    assert await asyncio.to_thread(disk.began.wait, 60)


@pytest.mark.parametrize("step", ["save", "prepare", "record"])
async def test_the_loop_goes_on_while_the_disk_syncs(tmp_path: Path, step: str) -> None:
    disk = SlowDisk()
    async with AuthJsonStore(tmp_path, disk=disk).locked() as held:
        work = {"save": lambda: held.save(make_tokens()), "prepare": held.prepare, "record": lambda: held.record(CLAIM)}
        writing = asyncio.ensure_future(work[step]())
        await until_it_began(disk)
        await asyncio.sleep(0)  # the loop runs, and the write has not ended
        assert not writing.done()
        disk.may_end.set()
        await writing
    assert disk.threads and all(name.startswith("authstate-disk") for name in disk.threads)


async def test_a_cancelled_save_is_complete_and_the_lock_is_held_until_then(tmp_path: Path) -> None:
    disk, tokens = SlowDisk(), make_tokens()
    store, other = AuthJsonStore(tmp_path, disk=disk), AuthJsonStore(tmp_path)

    async def sign_in() -> None:
        async with store.locked() as held:
            await held.save(tokens)
            noted.append("saved")
            await asyncio.sleep(0)
            noted.append("not reached")

    noted: list[str] = []
    signing_in = asyncio.ensure_future(sign_in())
    await until_it_began(disk)
    for _ in range(3):
        signing_in.cancel()
        await asyncio.sleep(0)
    assert not signing_in.done() and other.home_lock.try_acquire() is None
    disk.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await signing_in
    assert noted == ["saved"], "the caller notes what was done, and is cancelled at its next await"
    assert await other.load() == tokens
    lock = other.home_lock.try_acquire()
    assert lock is not None
    lock.release()
    assert {path.name for path in tmp_path.iterdir()} == {"auth.json", "auth.json.authstate.lock"}


async def test_an_error_of_the_thread_is_that_of_the_store(tmp_path: Path) -> None:
    class FullDisk(Disk):
        def sync(self, path: str) -> None:
            raise OSError(28, os.strerror(28), path)

    async with AuthJsonStore(tmp_path, disk=FullDisk()).locked() as held:
        with pytest.raises(StoreUnavailable, match="no space left") as raised:
            await held.save(make_tokens())
    assert raised.value.__traceback__ is not None and raised.value.__cause__ is None


async def test_what_a_thread_returns_comes_through() -> None:
    assert await completed(in_disk_thread(lambda: 7)) == 7
    with pytest.raises(ZeroDivisionError):
        await completed(in_disk_thread(lambda: 1 // 0))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await completed(in_disk_thread(lambda: next(iter(()))))


FORKED = """
import asyncio, os, signal
from authstate.adapters.stores.off_loop import completed, in_disk_thread

async def write() -> int:
    return await completed(in_disk_thread(lambda: 7))

assert asyncio.run(write()) == 7
parent = os.getpid()
child = os.fork()
if child == 0:
    signal.alarm(30)
    os.getpid = lambda: parent  # as after the end of the parent, or in a process namespace
    os._exit(asyncio.run(write()))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
AT_THE_END = """
import asyncio, atexit, threading
from authstate.adapters.stores.off_loop import completed, in_disk_thread

async def write() -> int:
    return await completed(in_disk_thread(lambda: 7))

def last() -> None:
    print(asyncio.run(write()))

asyncio.run(write())
atexit.register(last)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    """Also one that gets the number of an ancestor."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_write_while_the_interpreter_ends_is_done_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


async def test_a_step_runs_once_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    start, may_start = threading.Thread.start, False

    def start_if_allowed(thread: threading.Thread) -> None:
        if thread.name.startswith("authstate-disk") and not may_start:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(off_loop, "_of_process", {})
    monkeypatch.setattr(threading.Thread, "start", start_if_allowed)
    done: list[str] = []
    await completed(in_disk_thread(lambda: done.append(f"first in {threading.current_thread().name}")))
    await completed(in_disk_thread(lambda: done.append(f"second in {threading.current_thread().name}")))
    may_start = True
    await completed(in_disk_thread(lambda: done.append(f"last in {threading.current_thread().name}")))
    assert done == ["first in MainThread", "second in MainThread", "last in authstate-disk"]


async def test_a_step_has_the_context_variables_of_its_caller() -> None:
    request = ContextVar("request", default="none")
    request.set("seventh")
    assert await completed(in_disk_thread(request.get)) == "seventh"


async def engine_on(home: Path) -> tuple[AuthEngine, SlowDisk]:
    disk = SlowDisk()
    engine = AuthEngine(AuthJsonStore(home, disk=disk), FakeAuthority())
    await engine.start()
    return engine, disk


async def test_a_timeout_during_a_sign_in_is_raised_where_it_was_set(tmp_path: Path) -> None:
    engine, disk = await engine_on(tmp_path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            begun = asyncio.ensure_future(until_it_began(disk))
            begun.add_done_callback(lambda _: timeout.reschedule(0))
            begun.add_done_callback(lambda _: asyncio.get_running_loop().call_soon(disk.may_end.set))
            await engine.use_api_key("sk-1")
    await asyncio.sleep(0)  # no cancellation is left over
    assert engine.session.state.value == "api_key"
    await engine.close()


async def test_a_scope_of_anyio_knows_its_cancellation_again(tmp_path: Path) -> None:
    engine, disk = await engine_on(tmp_path)
    with anyio.CancelScope() as scope:
        begun = asyncio.ensure_future(until_it_began(disk))
        begun.add_done_callback(lambda _: scope.cancel())
        begun.add_done_callback(lambda _: asyncio.get_running_loop().call_soon(disk.may_end.set))
        await engine.use_api_key("sk-1")
    assert scope.cancelled_caught and engine.session.state.value == "api_key"
    await asyncio.sleep(0)
    await engine.close()


async def test_a_lock_that_is_taken_for_nobody_is_released(tmp_path: Path) -> None:
    """The event loop was closed while a thread took the lock, so nobody gets it."""
    store, other = AuthJsonStore(tmp_path), AuthJsonStore(tmp_path)
    async with store.locked() as held:
        await held.save(make_tokens())
    assert store.home_lock.try_acquire() is not None  # dropped at once
    lock = other.home_lock.try_acquire()
    assert lock is not None
    lock.release()


class SlowClaims(SlowDisk):
    """A disk on which only the claim waits."""

    def sync(self, path: str) -> None:
        Disk.sync(self, path)

    def publish(self, path: str, data: bytes, temporary: str) -> None:
        self.began.set()
        assert self.may_end.wait(60)
        super().publish(path, data, temporary)


async def test_a_refresh_that_is_cancelled_while_its_claim_is_written_sends_nothing(tmp_path: Path) -> None:
    """The cancellation is delivered before the request: an issuer that was asked would have spent the token."""
    tokens = make_tokens(expires_in=-10.0)
    disk, authority = SlowClaims(), FakeAuthority(tokens)
    store = AuthJsonStore(tmp_path, disk=disk)
    async with AuthJsonStore(tmp_path).locked() as held:
        await held.save(tokens)
    engine = AuthEngine(store, authority)
    await engine.start()
    refreshing = asyncio.ensure_future(engine.refresh())
    await until_it_began(disk)
    closing = asyncio.ensure_future(engine.close())
    for _ in range(5):
        await asyncio.sleep(0)
    disk.may_end.set()
    await closing
    with pytest.raises(AuthError):
        await refreshing
    assert authority.sent == []


async def test_a_lock_is_released_when_what_dead_processes_left_cannot_be_finished(tmp_path: Path) -> None:
    class FailingDisk(Disk):
        def list_folder(self, folder: str) -> list[str]:
            raise ZeroDivisionError

    store, other = AuthJsonStore(tmp_path, disk=FailingDisk()), AuthJsonStore(tmp_path)
    with pytest.raises(ZeroDivisionError):
        await store.locked().__aenter__()
    lock = other.home_lock.try_acquire()
    assert lock is not None
    lock.release()


def test_a_lock_is_released_when_the_event_loop_is_gone(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    is_held = loop.create_future()

    async def hold() -> None:
        async with AuthJsonStore(tmp_path).locked():
            is_held.set_result(None)
            await asyncio.Event().wait()

    holding = hold()
    task = loop.create_task(holding)
    loop.run_until_complete(is_held)
    other = AuthJsonStore(tmp_path).home_lock
    assert other.try_acquire() is None
    holding.close()
    lock = other.try_acquire()
    assert lock is not None
    lock.release()
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
