"""Single steps on a disk: what they follow, what they wait for, and what they leave when they fail."""

import errno
import fcntl
import os
import stat
import time
from pathlib import Path

import pytest

from authstate.adapters.stores import file_ownership
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.os_locks import ContentLock, FileLock
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


# What no step follows


def test_the_lock_on_a_file_follows_no_symbolic_link(tmp_path: Path) -> None:
    """Who could put a link there would choose which file is locked, and written in place."""
    precious, link = tmp_path / "precious", tmp_path / "link"
    precious.touch()
    link.symlink_to(precious)
    lock = ContentLock(str(link))
    with pytest.raises(OSError) as refused:
        lock.acquire()
    assert refused.value.errno == errno.ELOOP
    assert is_free(precious)


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


# The lock on a file itself


def is_free(path: Path) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def test_one_at_a_time_holds_the_lock_on_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    one, other = ContentLock(str(file)), ContentLock(str(file))
    assert one.is_writable is False, "nobody tried yet"
    assert one.acquire() is True
    assert one.is_writable is True
    assert other.acquire() is False
    one.release()
    one.release()
    assert is_free(file)
    assert other.acquire() is True
    other.close_after_fork()
    assert is_free(file), "a process that was forked has closed it"
    other.release()


def test_only_a_file_can_be_locked_by_its_content(tmp_path: Path) -> None:
    assert ContentLock.on(str(tmp_path)) is None
    assert ContentLock.on(str(tmp_path / "nothing")) is None
    assert ContentLock.has_lasting_file is False


@pytest.mark.parametrize(
    ("number", "locked"), [(errno.EACCES, True), (errno.EPERM, True), (errno.EROFS, True), (errno.EIO, False)]
)
def test_a_file_that_this_user_may_only_read_is_locked_and_not_written(
    number: int, locked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, opened = tmp_path / "file", os.open
    file.touch()

    def read_only(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_RDWR:
            raise OSError(number, os.strerror(number))
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", read_only)
    lock = ContentLock(str(file))
    if not locked:
        with pytest.raises(OSError, match=r"[Ii]nput/output"):
            lock.acquire()
        return
    assert lock.acquire() is True
    assert lock.is_writable is False
    assert not is_free(file)
    lock.release()


def test_a_file_that_is_replaced_while_it_is_locked_is_not_the_one_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, flock = tmp_path / "file", fcntl.flock
    file.touch()
    lost = os.open(file, os.O_RDONLY)

    def replaced(handle: int, how: int) -> None:
        flock(handle, how)
        (tmp_path / "new").touch()
        os.replace(tmp_path / "new", file)

    monkeypatch.setattr(fcntl, "flock", replaced)
    lock = ContentLock(str(file))
    assert lock.acquire() is False
    monkeypatch.undo()
    fcntl.flock(lost, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it was given back
    os.close(lost)
    assert lock.acquire() is True
    lock.release()


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EAGAIN, False),
        (errno.EACCES, False),
        (errno.ENOLCK, errno.ENOLCK),
        (errno.EINTR, errno.EINTR),
    ],
)
def test_a_lock_that_is_held_is_told_from_one_that_cannot_be(
    number: int, told: bool | int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refused)
        if told is False:
            assert ContentLock(str(file)).acquire() is False
        else:
            with pytest.raises(OSError) as fault:
                ContentLock(str(file)).acquire()
            assert fault.value.errno == told
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before, "the file was closed"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, errno.ENOLCK),
        (errno.EAGAIN, errno.ENOLCK),
        (errno.EBUSY, errno.ENOLCK),
        (errno.EIO, errno.ENOLCK),
        (errno.ENFILE, errno.ENFILE),
    ],
)
def test_a_lock_that_keeps_readers_out_counts_as_none(
    number: int, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()

    def kept_out(*_: object, **options: object) -> object:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("authstate.adapters.stores.os_locks.open", kept_out, raising=False)
    with pytest.raises(OSError) as fault:
        ContentLock(str(file)).acquire()
    assert fault.value.errno == told
    assert is_free(file)


# What is closed, and how often is tried


def test_reserved_space_is_written_and_the_file_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"{}")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert Disk().reserve_space(str(file), 3) == 2
    assert file.read_bytes() == b"{}   "
    Disk().release_space(str(file), 2)
    assert file.read_bytes() == b"{}"
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


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
