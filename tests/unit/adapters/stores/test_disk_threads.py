"""Which thread the disk works in, how often a refresh changes threads, and what a disk that hangs keeps."""

import asyncio
import functools
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from authstate import AuthEngine, AuthJsonStore, CombinesWrites
from authstate.adapters.stores import off_loop
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.off_loop import completed, in_disk_thread
from authstate.testing import FakeAuthority, make_tokens

T = TypeVar("T")

_NO_ACCESS = {"off_loop", "begin", "unique_name", "process_id", "temporary_path"}
"""Methods of a disk that do not touch it."""
_BRIEF = {"resolve", "revision", "read_lock_file"}
"""What `revision` and the paths of messages need. They may run in the event loop's thread at any time."""


def _counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def counting(disk: "CountingDisk", *arguments: Any) -> Any:
        if disk.is_counting and threading.current_thread() is threading.main_thread():
            disk.in_the_loop[name] += 1
        disk.calls[name] += disk.is_counting
        return method(disk, *arguments)

    return counting


class CountingDisk(Disk):
    """A disk that counts its calls, those in the event loop's thread, and the steps in other threads."""

    def __init__(self) -> None:
        self.is_counting = False
        self.calls: Counter[str] = Counter()
        self.in_the_loop: Counter[str] = Counter()
        self.steps = 0

    def begin(self, steps: Callable[[], T]) -> "asyncio.Future[T]":
        self.steps += self.is_counting
        return super().begin(steps)


for _name, _method in vars(Disk).items():
    if callable(_method) and not _name.startswith("_") and _name not in _NO_ACCESS:
        setattr(CountingDisk, _name, _counted(_name, _method))


@asynccontextmanager
async def signed_in(home: Path) -> AsyncIterator[tuple[AuthEngine, CountingDisk]]:
    """A started engine, whose first look at the home is over."""
    disk, authority = CountingDisk(), FakeAuthority()
    store = AuthJsonStore(home, disk=disk)
    async with store.locked() as held:
        await held.save(authority.issue())
    engine = AuthEngine(store, authority)
    await engine.start()
    disk.is_counting = True
    yield engine, disk
    disk.is_counting = False
    await engine.close()


CHANGES: dict[str, Callable[[AuthEngine], Any]] = {
    "refresh": lambda engine: engine.refresh(),
    "sign in": lambda engine: engine.use_api_key("sk-1"),
    "sign out": lambda engine: engine.log_out(),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_happens_under_the_lock_is_not_done_by_the_event_loop(tmp_path: Path, change: str) -> None:
    async with signed_in(tmp_path) as (engine, disk):
        await CHANGES[change](engine)
        assert {name: count for name, count in disk.in_the_loop.items() if name not in _BRIEF} == {}
        assert {"lock", "read", "list_folder"} <= set(disk.calls)


async def test_a_refresh_changes_threads_five_times(tmp_path: Path) -> None:
    """The lock and two reads; the reservation and the claim; a read; the tokens and the claim; the release."""
    async with signed_in(tmp_path) as (engine, disk):
        await engine.refresh()
        assert disk.steps == 5


async def test_the_first_use_of_a_home_under_the_lock_is_not_done_by_the_event_loop(tmp_path: Path) -> None:
    disk = CountingDisk()
    store = AuthJsonStore(tmp_path, disk=disk)
    disk.is_counting = True
    async with store.locked() as held:
        await held.save(make_tokens())
    assert disk.calls["findings"] == 1
    assert {name for name in disk.in_the_loop if name not in _BRIEF} == set()


async def test_what_was_read_with_the_lock_is_not_used_after_anything_else_ran(tmp_path: Path) -> None:
    """codex takes no lock: it may write as soon as another task runs."""
    first, second = make_tokens(), make_tokens()
    store, codex = AuthJsonStore(tmp_path), AuthJsonStore(tmp_path / "codex")
    for one, tokens in ((store, first), (codex, second)):
        async with one.locked() as held:
            await held.save(tokens)
    async with store.locked() as held:
        await asyncio.sleep(0)
        (tmp_path / "codex" / "auth.json").replace(tmp_path / "auth.json")
        assert await held.load() == second


async def test_what_was_read_with_the_lock_is_not_used_after_a_write(tmp_path: Path) -> None:
    store, newer = AuthJsonStore(tmp_path), make_tokens()
    async with store.locked() as held:
        await held.save(make_tokens())
    async with store.locked() as held:
        await held.save(newer)
        assert await held.load() == newer
        await held.delete()
        assert await held.load() is None


async def test_a_held_file_combines_writes(tmp_path: Path) -> None:
    async with AuthJsonStore(tmp_path).locked() as held:
        assert isinstance(held, CombinesWrites)


class HungSteps:
    """Steps that hang until they are let go."""

    def __init__(self, count: int) -> None:
        self.may_end = threading.Event()
        self.threads: list[str] = []
        self._all_began = threading.Barrier(count + 1)
        self.begun = [in_disk_thread(self._hang) for _ in range(count)]

    def _hang(self) -> int:
        self._all_began.wait(60)
        assert self.may_end.wait(60)
        return threading.get_ident()

    async def until_they_hang(self) -> None:
        await asyncio.to_thread(self._all_began.wait, 60)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of threads of this test's own. A step that began before what it shows counts as hung."""
    shown = [0.0]
    monkeypatch.setattr(off_loop, "_of_process", {})
    monkeypatch.setattr(off_loop, "_PATIENCE", 0.0)
    monkeypatch.setattr(off_loop, "_now", lambda: shown[0])
    return shown


async def test_disks_that_hang_keep_no_other_home_waiting(tmp_path: Path, time: list[float]) -> None:
    hung = HungSteps(off_loop._MOST_THREADS)
    await hung.until_they_hang()
    time[0] = 1.0
    for number in range(3):
        async with AuthJsonStore(tmp_path / str(number)).locked() as held:
            await held.save(make_tokens())
    hung.may_end.set()
    assert len({await completed(one) for one in hung.begun}) == off_loop._MOST_THREADS


async def test_each_thread_that_hangs_gets_one_substitute_and_ends_afterwards(time: list[float]) -> None:
    hung = HungSteps(off_loop._MOST_THREADS)
    await hung.until_they_hang()
    time[0] = 1.0
    others = [in_disk_thread(threading.get_ident) for _ in range(20)]
    substitutes = {await completed(one) for one in others}
    hung.may_end.set()
    ended = {await completed(one) for one in hung.begun}
    assert not ended & substitutes and len(substitutes) <= off_loop._MOST_THREADS
    later = {await completed(in_disk_thread(threading.get_ident)) for _ in range(20)}
    assert not later & ended


async def test_a_step_that_waits_for_a_busy_disk_gets_no_thread_of_its_own(time: list[float]) -> None:
    """It is looked for steps that hang all the time, and none does: however slow the machine is, no time passes."""
    found = [await completed(one) for one in [in_disk_thread(threading.get_ident) for _ in range(200)]]
    assert len(set(found)) <= off_loop._MOST_THREADS


class SlowRelease(Disk):
    """A disk that lets a test act while the lock is released."""

    def __init__(self) -> None:
        self.while_saving: Callable[[], object] = lambda: None

    def rename(self, source: str, target: str) -> None:
        self.while_saving()
        super().rename(source, target)


async def test_a_timeout_around_a_lock_leaves_no_cancellation_behind(tmp_path: Path) -> None:
    """The save is the last thing that is awaited in it, so the cancellation is raised when the lock is released."""
    disk = SlowRelease()
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as timeout:

            def expire() -> None:
                timeout.reschedule(0)
                loop.call_soon(loop.call_soon, expired.set)

            expired = threading.Event()
            disk.while_saving = lambda: (loop.call_soon_threadsafe(expire), expired.wait(60))
            async with AuthJsonStore(tmp_path, disk=disk).locked() as held:
                await held.save(make_tokens())
    task = asyncio.current_task()
    assert task is not None and not task.cancelling()
    await asyncio.sleep(0)  # raises what is left over


async def test_a_timeout_while_the_lock_is_released_leaves_no_cancellation_behind(tmp_path: Path) -> None:
    loop, released = asyncio.get_running_loop(), threading.Event()

    class SlowEnd(Disk):
        is_last = False

        def begin(self, steps: Callable[[], T]) -> "asyncio.Future[T]":
            def after() -> T:
                assert not self.is_last or released.wait(60)
                return steps()

            return super().begin(after)

    disk = SlowEnd()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            async with AuthJsonStore(tmp_path, disk=disk).locked():
                disk.is_last = True
                timeout.reschedule(0)
                loop.call_soon(functools.partial(loop.call_soon, functools.partial(loop.call_soon, released.set)))
    await asyncio.sleep(0)
