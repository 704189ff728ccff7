"""A JSON file that several processes read and change."""

import os
import time
from pathlib import Path

import msgspec
import pytest
from support.failing_disk import FailingDisk

from authstate.adapters.stores.disk import Disk
from authstate.adapters.vault import json_file
from authstate.adapters.vault.json_file import JsonFile
from authstate.engine.model.errors import StoreBusy, StoreUnavailable, StoreUnreadable

Numbers = tuple[int, ...]


def numbers_in(folder: Path, disk: Disk | None = None) -> JsonFile[Numbers]:
    return JsonFile(str(folder / "inside" / "numbers.json"), Numbers, (), disk)


def one_more(numbers: Numbers) -> Numbers:
    return (*numbers, len(numbers))


class CountingDisk(Disk):
    """Counts the reads of files."""

    reads = 0

    def read(self, path: str, limit: int) -> bytes:
        self.reads += 1
        return super().read(path, limit)


class StoppedTime:
    """The module `time` with a wall clock of this test's own: how long a change takes says nothing."""

    now = 1_800_000_000_000_000_000
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    @classmethod
    def time_ns(cls) -> int:
        return cls.now


def age(file: JsonFile[Numbers]) -> None:
    """Make the file look as if it was changed a minute ago."""
    then = time.time() - 60
    os.utime(file.path, (then, then))


def test_a_missing_file_is_empty_and_is_not_created_by_a_look(tmp_path: Path) -> None:
    file = numbers_in(tmp_path)
    assert (file.load(), file.revision()) == ((), None)
    assert not os.listdir(tmp_path)


def test_the_first_change_creates_the_file_for_this_user_only(tmp_path: Path) -> None:
    file = numbers_in(tmp_path)
    assert file.change(one_more) == (0,)
    assert file.load() == numbers_in(tmp_path).load() == (0,)
    assert os.stat(file.path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(file.path)).st_mode & 0o777 == 0o700
    assert sorted(os.listdir(tmp_path / "inside")) == ["numbers.json", "numbers.json.lock"]


def test_a_change_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    file = numbers_in(tmp_path)
    file.change(one_more)
    before = file.revision()
    assert file.change(lambda numbers: numbers) == (0,)
    assert file.revision() == before


def test_what_was_read_is_kept_until_the_file_changes(tmp_path: Path) -> None:
    disk = CountingDisk()
    file = numbers_in(tmp_path, disk)
    file.change(one_more)
    age(file)
    reads = disk.reads
    assert file.load() is file.load()
    assert disk.reads == reads + 1
    numbers_in(tmp_path).change(one_more)
    assert file.load() == (0, 1)


def test_two_changes_within_one_tick_of_the_clock_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may leave the file with the same number, size and time."""
    monkeypatch.setattr(json_file, "time", StoppedTime)

    class StoppedDisk(Disk):
        stopped = StoppedTime.now

        def revision(self, path: str) -> tuple[int, ...] | None:
            return (1, 2, self.stopped)

    file, other = numbers_in(tmp_path, StoppedDisk()), numbers_in(tmp_path)
    for count in range(1, 20):
        other.change(one_more)
        if count % 5 == 0:
            StoppedTime.now += json_file._FRESH * 10
            StoppedDisk.stopped = StoppedTime.now
        assert len(file.load()) == count


def test_an_exception_of_a_change_leaves_the_file_and_the_lock_is_free(tmp_path: Path) -> None:
    file = numbers_in(tmp_path)
    file.change(one_more)

    def fail(numbers: Numbers) -> Numbers:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        file.change(fail)
    assert file.change(one_more, within=0.0) == (0, 1)


def test_a_lock_that_another_holds_is_waited_for_and_then_named(tmp_path: Path) -> None:
    file, other = numbers_in(tmp_path), numbers_in(tmp_path)

    def in_between(numbers: Numbers) -> Numbers:
        with pytest.raises(StoreBusy, match=r"numbers\.json is held by another process for more than 0.03 s"):
            other.change(one_more, within=0.03)
        assert other.load() == numbers, "a look takes no lock"
        return one_more(numbers)

    assert file.change(in_between) == (0,)


@pytest.mark.parametrize("content", [b"", b"[", b"\xff", b'{"a": 1}', b'["x"]', b"[" * 5000, b"null"])
def test_a_damaged_file_is_named_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    file = numbers_in(tmp_path)
    file.change(one_more)
    Path(file.path).write_bytes(content)
    for look in (file.load, lambda: file.change(one_more)):
        with pytest.raises(StoreUnreadable, match=r"numbers\.json cannot be read .*repair it, or move it away"):
            look()
    assert Path(file.path).read_bytes() == content


def test_a_file_larger_than_16_mib_counts_as_damaged(tmp_path: Path) -> None:
    file = numbers_in(tmp_path)
    file.change(one_more)
    Path(file.path).write_bytes(b"[0" + b" " * (16 << 20) + b"]")
    with pytest.raises(StoreUnreadable):
        file.load()


@pytest.mark.parametrize("step", ["create", "write", "sync", "rename"])
def test_a_disk_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, step: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file = numbers_in(tmp_path)
    file.change(one_more)
    disk = Disk()
    setattr(disk, step, fail)
    with pytest.raises(StoreUnavailable, match=r"cannot write .*numbers\.json: no space left on device"):
        numbers_in(tmp_path, disk).change(one_more)
    assert file.change(one_more) == (0, 1)
    assert sorted(os.listdir(tmp_path / "inside")) == ["numbers.json", "numbers.json.lock"]


def test_a_file_that_cannot_be_read_now_is_not_an_empty_one(tmp_path: Path) -> None:
    numbers_in(tmp_path).change(one_more)
    file = numbers_in(tmp_path, FailingDisk(read="numbers.json"))
    for look in (file.load, lambda: file.change(one_more)):
        with pytest.raises(StoreUnavailable, match=r"cannot read .*numbers\.json"):
            look()


def test_a_place_that_cannot_be_a_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "inside").write_text("a file")
    file = numbers_in(tmp_path)
    with pytest.raises(StoreUnavailable, match=r"numbers\.json"):
        file.change(one_more)
    assert (tmp_path / "inside").read_text() == "a file"


def test_the_next_change_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    file = numbers_in(tmp_path)
    file.change(one_more)
    left = tmp_path / "inside" / "numbers.json.77.0123456789abcdef.tmp"
    left.write_bytes(msgspec.json.encode((0, 1)))
    other = tmp_path / "inside" / "other.json.77.0123456789abcdef.tmp"
    other.write_bytes(b"")
    assert file.change(one_more) == (0, 1)
    assert (left.exists(), other.exists()) == (False, True)
