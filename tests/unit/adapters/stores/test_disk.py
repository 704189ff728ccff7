"""The steps of `Disk`, one at a time: what they sync, that they follow no link, and what a failure leaves."""

import errno
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.open_files import open_files_below

from authstate.adapters.stores import file_ownership
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.os_locks import FileLock
from authstate.adapters.stores.refresh_claims_file import RefreshClaimsFile
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners, modes and locks are those of Unix")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="only root can give files to other users")
USER = 4321


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# Publishing


def test_a_file_is_published_whole_and_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content reaches the disk before it gets its name, and the name before anybody relies on it."""
    steps: list[str] = []

    class Watched(Disk):
        def sync(self, path: str) -> None:
            steps.append(f"sync {Path(path).name}")
            super().sync(path)

        def rename(self, source: str, target: str) -> None:
            steps.append(f"rename {Path(source).name} {Path(target).name}")
            super().rename(source, target)

        def sync_folder(self, folder: str) -> None:
            steps.append(f"sync {Path(folder).name}/")
            super().sync_folder(folder)

    Watched().publish(str(tmp_path / "file"), b"new", str(tmp_path / "temporary"))
    assert steps == ["sync temporary", "rename temporary file", f"sync {tmp_path.name}/"]
    assert (tmp_path / "file").read_bytes() == b"new"
    assert mode_of(tmp_path / "file") == 0o600


@pytest.mark.parametrize("step", ["copy_ownership", "write", "sync", "rename"])
def test_a_publication_that_fails_leaves_the_old_file_and_nothing_else(step: str, tmp_path: Path) -> None:
    disk, file = Disk(), tmp_path / "file"
    file.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    setattr(disk, step, full)
    with pytest.raises(OSError, match="No space"):
        disk.publish(str(file), b"new", str(tmp_path / "temporary"))
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_sync_reaches_the_file_and_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    monkeypatch.setattr(sys, "platform", "linux")
    file = tmp_path / "file"
    file.touch()
    Disk().sync(str(file))
    Disk().sync_folder(str(tmp_path))
    assert synced == [file.stat().st_ino, tmp_path.stat().st_ino]


# Symbolic links


@needs_root
@pytest.mark.parametrize("give", [file_ownership.give_to_owner_of_folder, file_ownership.share_with_group])
def test_no_file_is_given_away_by_a_symbolic_link(give: object, tmp_path: Path) -> None:
    home, precious = tmp_path / "home", tmp_path / "precious"
    home.mkdir()
    home.chmod(0o770)
    os.chown(home, USER, USER)
    precious.touch(mode=0o600)
    (home / "link").symlink_to(precious)
    give(str(home / "link"))  # type: ignore[operator]
    found = precious.stat()
    assert (found.st_uid, found.st_gid, mode_of(precious)) == (0, 0, 0o600)


@pytest.mark.parametrize(
    ("step", "call"),
    [
        ("create", lambda disk, path: disk.create(path)),
        ("write", lambda disk, path: disk.write(path, b"canary")),
        ("overwrite", lambda disk, path: disk.overwrite(path, b"canary")),
        ("sync", lambda disk, path: disk.sync(path)),
        ("write_lock_file", lambda disk, path: disk.write_lock_file(path, b"canary")),
        ("reserve_space", lambda disk, path: disk.reserve_space(path, 10)),
        ("release_space", lambda disk, path: disk.release_space(path, 0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_write_follows_a_symbolic_link(step: str, call: Callable[[Disk, str], object], tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / "link"
    precious.write_text("      ")
    link.symlink_to(precious)
    with pytest.raises(OSError, match=r"exists|symbolic"):
        call(Disk(), str(link))
    assert precious.read_text() == "      "


# Reserved space, and replacing a file


def test_reserved_space_is_written_and_the_file_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"{}")
    assert Disk().reserve_space(str(file), 3) == 2
    assert file.read_bytes() == b"{}   "
    Disk().release_space(str(file), 2)
    assert file.read_bytes() == b"{}"
    assert open_files_below(tmp_path) == []


def test_a_file_that_no_rename_can_replace_is_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    assert Disk().is_not_replaceable(str(file)) is False
    assert Disk().is_not_replaceable(str(tmp_path / "nowhere" / "file")) is False
    monkeypatch.setattr("authstate.adapters.stores.disk.is_mount_point", lambda path: True)
    assert Disk().is_not_replaceable(str(file)) is True


@pytest.mark.parametrize(("refusals", "is_replaced"), [(0, True), (50, True), (51, False)])
def test_on_windows_a_rename_waits_half_a_second_for_a_reader(
    refusals: int, is_replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, replace = [None] * refusals, os.replace
    slept: list[float] = []

    def busy(source: str, target: str) -> None:
        if left:
            left.pop()
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        replace(source, target)

    (tmp_path / "new").touch()
    monkeypatch.setattr("authstate.adapters.stores.disk._WINDOWS", True)
    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(time, "sleep", slept.append)
    if is_replaced:
        Disk().rename(str(tmp_path / "new"), str(tmp_path / "file"))
    else:
        with pytest.raises(PermissionError):
            Disk().rename(str(tmp_path / "new"), str(tmp_path / "file"))
    assert (tmp_path / "file").exists() is is_replaced
    assert slept == [0.01] * min(refusals, 50)


@needs_root
def test_the_lock_and_the_claims_of_a_home_for_a_group_are_for_the_group(tmp_path: Path) -> None:
    os.chown(tmp_path, USER, 4400)
    tmp_path.chmod(0o770)
    lock = FileLock(str(tmp_path / "lock"))
    assert lock.acquire() is True
    lock.release()
    RefreshClaimsFile(str(tmp_path / "auth.json"), Disk()).record(RefreshClaim("ab" * 16, RefreshClaimState.DEAD))
    for name in ("lock", "auth.json.authstate.claims"):
        found = (tmp_path / name).stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (USER, 4400, 0o660)
