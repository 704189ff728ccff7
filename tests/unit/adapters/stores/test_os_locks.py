"""The locks of the operating system: `FileLock` on the lock file and `ContentLock` on auth.json."""

import errno
import os
import threading
from pathlib import Path

import pytest
from support.open_files import open_files_below

from authstate.adapters.stores import os_locks
from authstate.adapters.stores.os_locks import SOFT, ContentLock, FileLock

fcntl = pytest.importorskip("fcntl", reason="only Unix has these locks")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="locks and modes are those of Unix")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    made = tmp_path / "home" / "auth.json"
    made.write_bytes(b'{"a": "old"}')
    return made


# FileLock


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.mark.parametrize("has_locks", [True, False])
def test_one_at_a_time_holds_a_lock_file(has_locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    path = tmp_path / "lock"
    one, other = FileLock(str(path)), FileLock(str(path))
    one.release()
    assert one.acquire() is True
    assert other.acquire() is False
    made = path if has_locks else Path(f"{path}{SOFT}")
    assert made.stat().st_mode & 0o777 == 0o600
    freeing = threading.Thread(target=one.release)  # the event loop may free it in another thread than it was taken in
    freeing.start()
    freeing.join()
    assert other.acquire() is True
    other.release()


def test_what_keeps_a_lock_file_from_being_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError) as fault:
        FileLock(str(tmp_path / "lock")).acquire()
    assert fault.value.errno == errno.EISDIR


@pytest.mark.skipif(not is_root, reason="only root can give files to other users")
@pytest.mark.parametrize("has_locks", [True, False])
def test_a_lock_file_that_root_makes_belongs_to_the_owner_of_the_folder(
    has_locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(tmp_path, 4321, 4321)
    if not has_locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = FileLock(str(tmp_path / "lock"))
    assert lock.acquire() is True
    assert {path.stat().st_uid for path in tmp_path.glob("lock*")} == {4321}
    lock.release()


# ContentLock


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

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refused)
        if told is False:
            assert ContentLock(str(file)).acquire() is False
        else:
            with pytest.raises(OSError) as fault:
                ContentLock(str(file)).acquire()
            assert fault.value.errno == told
    assert open_files_below(tmp_path) == [], "the file was closed"


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


# ContentLock and forks


def test_a_lock_that_a_child_has_inherited_is_freed_by_its_owner(file: Path) -> None:
    lock = ContentLock(str(file))
    assert lock.acquire()
    assert lock._handle is not None
    inherited = os.dup(lock._handle)  # as in a child that runs another program
    lock.release()
    assert is_free(file)
    os.close(inherited)


def test_a_process_that_was_forked_has_closed_the_lock(file: Path) -> None:
    lock = ContentLock(str(file))
    assert lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(0 if lock._handle is None and not list(os_locks._held_content_locks) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not is_free(file)
    os_locks._after_fork()
    assert (lock._handle, list(os_locks._held_content_locks)) == (None, [])
    assert is_free(file)
    lock.close_after_fork()
    lock.release()


def test_closing_a_file_that_is_closed_is_no_fault(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    os_locks.close(handle)
    os_locks.close(handle)


@pytest.mark.parametrize("step", ["open", "read"])
def test_a_lock_that_lets_readers_open_the_file_and_not_read_it_counts_as_none(
    step: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KeptOut:
        def __enter__(self) -> "KeptOut":
            return self

        def __exit__(self, *_: object) -> None:
            """It is closed."""

        def read(self, size: int) -> bytes:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def opened(*_: object, **options: object) -> KeptOut:
        return KeptOut() if step == "read" else KeptOut().read(1)  # type: ignore[return-value]

    monkeypatch.setattr(os_locks, "open", opened, raising=False)
    with pytest.raises(OSError) as fault:
        ContentLock(str(file)).acquire()
    assert fault.value.errno == errno.ENOLCK
