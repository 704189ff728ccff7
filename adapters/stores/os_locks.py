"""The locks that the operating system keeps for one process, and gives back when that process dies.

There are two. `FileLock` is on a lock file beside auth.json: every process that shares the folder takes it.
`ContentLock` is on auth.json itself: two containers that mount the same file have no folder in common, and where the
lock file cannot be opened (a folder that cannot be written, a lock file of another user) it is the only one.

Some file systems have no locks (ENOLCK, EOPNOTSUPP, ENOSYS). There a marker file is the lock: `auth.json.authstate.
lock.soft`, with the host and the process that hold it. It is weaker: the marker of a process that died on another host
stays until somebody removes it.
"""

import errno
import os
import sys
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

from authstate.adapters.stores.file_ownership import give_to_owner_of_folder, share_with_group

_WINDOWS = sys.platform == "win32"
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
_HELD = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK})
SOFT = ".soft"
"""How the name of a marker file ends, after that of the lock file."""


class DiskLock(Protocol):
    """A lock of one process."""

    def acquire(self) -> bool:
        """Take it if it is free, without a wait; tell whether it was. Raises OSError where there can be no lock."""
        ...

    def release(self) -> None:
        """Give it back. Raises OSError."""

    @property
    def has_lasting_file(self) -> bool:
        """Whether its file may hold notes, and stays when the lock is given back. On Windows nobody can write to it."""
        ...


class FileLock:
    """`filelock` without its waits: a wait belongs to the event loop. A lock file that root makes belongs to the owner
    of its folder.
    """

    has_lasting_file = not _WINDOWS

    def __init__(self, path: str) -> None:
        # Imported here: reading what is stored takes no lock.
        from filelock import FileLock as NativeLock
        from filelock import SoftFileLock, Timeout

        self._path = path
        self._native = NativeLock(path, mode=0o600, thread_local=False, fallback_to_soft=False)
        self._soft = SoftFileLock(path + SOFT, mode=0o600, thread_local=False)
        self._held_elsewhere = Timeout
        self._taken: NativeLock | SoftFileLock | None = None

    def acquire(self) -> bool:
        try:
            try:
                self._taken = self._native
                self._native.acquire(blocking=False)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                self._taken = self._soft
                self._soft.acquire(blocking=False)
                give_to_owner_of_folder(self._path + SOFT)
        except self._held_elsewhere:
            return False
        give_to_owner_of_folder(self._path)
        share_with_group(self._path)
        return True

    def release(self) -> None:
        if self._taken is not None:
            self._taken.release()


_open: "WeakSet[ContentLock]" = WeakSet()


class ContentLock:
    """A lock on the content of auth.json. Readers do not take it, and it does not keep them out.

    Make it with `on`. The file is opened, never made.
    """

    has_lasting_file = False

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle: int | None = None
        self.is_writable = False
        """Whether this user may write the file in place."""

    @classmethod
    def on(cls, path: str) -> "ContentLock | None":
        """A lock on a file; None where there is no file, or its file system or Windows has no such locks."""
        if _WINDOWS or not os.path.isfile(path):
            return None
        return cls(path)

    def acquire(self) -> bool:
        """Take it if it is free. Raises OSError where the file cannot be opened, or has no locks."""
        import fcntl

        plain = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self.is_writable = True
        try:
            handle = os.open(self._path, os.O_RDWR | plain)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            self.is_writable = False
            handle = os.open(self._path, os.O_RDONLY | plain)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(handle), os.stat(self._path)):  # it was replaced in between
                close(handle)
                return False
            _assert_readable(self._path)
        except OSError as error:
            close(handle)
            if error.errno in _HELD:
                return False
            raise
        self._handle = handle
        _open.add(self)
        return True

    def release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_UN)  # a child that was forked meanwhile may have it open, too
            finally:
                close(handle)

    def close_after_fork(self) -> None:
        """Close it in a process that was forked: it is the parent's."""
        if self._handle is not None:
            close(self._handle)
            self._handle = None


def _assert_readable(path: str) -> None:
    """Raise ENOLCK where a lock keeps readers out, as on Windows shares: then it must not be held for long."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.read(1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EBUSY, errno.EIO):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), path) from error
        raise


def close(handle: int) -> None:
    """Close a file. Nothing is lost by an error there: what matters was synced."""
    with suppress(OSError):
        os.close(handle)


def _after_fork() -> None:
    for lock in list(_open):
        lock.close_after_fork()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
