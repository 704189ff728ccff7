"""The file that processes share: readers take no lock, writers do, and a damaged file is never replaced."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from authstate.adapters.stores.disk import Disk
from authstate.adapters.vault import json_file
from authstate.adapters.vault.json_file import JsonFile
from authstate.engine.model.errors import StoreBusy, StoreUnavailable, StoreUnreadable


class FullDisk(Disk):
    """Nothing can be written."""

    def publish(self, path: str, data: bytes, temporary: str) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


class CountingDisk(Disk):
    reads = 0

    def read(self, path: str, limit: int) -> bytes:
        self.reads += 1
        return super().read(path, limit)


def numbers(folder: Path, disk: Disk | None = None) -> JsonFile[list[int]]:
    return JsonFile(str(folder / "made" / "numbers.json"), list[int], [], disk)


def test_a_missing_file_is_empty_and_the_first_change_makes_it_for_this_user_only(tmp_path: Path) -> None:
    file = numbers(tmp_path)
    assert file.load() == [] and file.revision() is None
    assert not (tmp_path / "made").exists()
    assert file.change(lambda found: [*found, 1]) == [1]
    assert numbers(tmp_path).load() == [1]
    assert [oct((tmp_path / "made" / name).stat().st_mode)[-3:] for name in (".", "numbers.json")] == ["700", "600"]


def test_what_was_read_is_kept_until_the_file_changes(tmp_path: Path) -> None:
    disk = CountingDisk()
    file, other = numbers(tmp_path, disk), numbers(tmp_path)
    other.change(lambda _: [1])
    os.utime(file.path, (0, 0))  # two changes at once may look like one, so a file that is new is read again
    assert [file.load() for _ in range(5)] == [[1]] * 5
    assert disk.reads == 1
    other.change(lambda _: [1, 2])
    assert file.load() == [1, 2]


def test_a_change_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    file = numbers(tmp_path)
    file.change(lambda _: [1])
    before = file.revision()
    assert file.change(lambda found: list(found)) == [1]
    assert file.revision() == before


def test_no_change_of_many_writers_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_file, "_LOCK_WITHIN", 180.0)  # a lock is not given in turn, and a busy disk takes its time
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: numbers(tmp_path).change(lambda found: [*found, number]), range(40)))
    assert sorted(numbers(tmp_path).load()) == list(range(40))


def test_an_error_of_the_change_leaves_the_file_and_the_lock(tmp_path: Path) -> None:
    file = numbers(tmp_path)
    file.change(lambda _: [1])

    def fail(_: list[int]) -> NoReturn:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        file.change(fail)
    assert file.change(lambda found: [*found, 2]) == [1, 2]


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2", b'["a"]', b"null", b"\xff", b"[" * 100_000])
def test_a_damaged_file_is_reported_and_never_replaced(content: bytes, tmp_path: Path) -> None:
    file = numbers(tmp_path)
    file.change(lambda _: [1])
    Path(file.path).write_bytes(content)
    for use in (file.load, lambda: file.change(lambda found: [*found, 2])):
        with pytest.raises(StoreUnreadable, match=r"numbers\.json cannot be read .*repair it, or move it away"):
            use()
    assert Path(file.path).read_bytes() == content
    Path(file.path).write_bytes(b"[3]")
    assert file.load() == [3]


def test_a_folder_in_its_place_and_a_full_disk_are_reported(tmp_path: Path) -> None:
    file = numbers(tmp_path)
    Path(file.path).mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match="cannot read"):
        file.load()
    full = JsonFile(str(tmp_path / "other" / "numbers.json"), list[int], [], FullDisk())
    with pytest.raises(StoreUnavailable, match=r"cannot write .*no space left"):
        full.change(lambda _: [1])
    assert full.load() == []


def test_a_lock_that_another_process_keeps_is_waited_for_and_then_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = numbers(tmp_path)
    file.change(lambda _: [1])
    held = Disk().lock(f"{file.path}.lock")
    assert held.acquire()
    monkeypatch.setattr(json_file, "_LOCK_WITHIN", 0.05)
    with pytest.raises(StoreBusy, match="held by another process"):
        file.change(lambda _: [2])
    assert file.load() == [1], "readers do not wait"
    monkeypatch.setattr(json_file, "_LOCK_WITHIN", 60.0)
    waiter = threading.Thread(target=lambda: file.change(lambda _: [2]))
    waiter.start()
    held.release()
    waiter.join(60)
    assert file.load() == [2]
