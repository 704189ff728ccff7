"""The locks of the operating system, which releases them when their process dies.

There are two. `FileLock` locks a lock file beside auth.json: every process that shares the folder takes it.
`ContentLock` locks auth.json itself: two containers that mount the same file have no folder in common. It is also the
only lock of a process that cannot open the lock file, because the folder is not writable or the file belongs to another
user.

On file systems without locks (ENOLCK, EOPNOTSUPP, ENOSYS), a marker file is the lock: `auth.json.authstate.lock.soft`,
with the host and the process that hold it. It is weaker: if its process dies on another host, the marker stays until
somebody removes it.
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
"""The suffix of a marker file, after the name of the lock file."""


class DiskLock(Protocol):
    """A lock that one process holds."""

    def acquire(self) -> bool:
        """Take the lock if it is free, without waiting. Return whether it was free.

        Raises OSError if no lock is possible.
        """
        ...

    def release(self) -> None:
        """Release the lock. Raises OSError."""

    @property
    def has_lasting_file(self) -> bool:
        """Whether the lock's file can contain records, and stays when the lock is released. Never on Windows."""
        ...


class FileLock:
    """A `filelock` lock without its waits: the event loop waits instead.

    A lock file that root creates belongs to the owner of its folder.
    """

    has_lasting_file = not _WINDOWS

    def __init__(self, path: str) -> None:
        # Imported here, because reading takes no lock.
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


_held_content_locks: "WeakSet[ContentLock]" = WeakSet()


class ContentLock:
    """A lock on auth.json itself. Readers do not take it, and it does not block them.

    Create it with `on`. The file must exist.
    """

    has_lasting_file = False

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle: int | None = None
        self.is_writable: bool = False
        """Whether this user may write the file in place."""

    @classmethod
    def on(cls, path: str) -> "ContentLock | None":
        """Return a lock on a file. None if there is no file, or on Windows, which has no such locks."""
        if _WINDOWS or not os.path.isfile(path):
            return None
        return cls(path)

    def acquire(self) -> bool:
        """Take the lock if it is free. Raises OSError if the file cannot be opened or locked."""
        import fcntl

        flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self.is_writable = True
        try:
            handle = os.open(self._path, os.O_RDWR | flags)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            self.is_writable = False
            handle = os.open(self._path, os.O_RDONLY | flags)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(handle), os.stat(self._path)):  # the file was replaced meanwhile
                close(handle)
                return False
            _assert_readable(self._path)
        except OSError as error:
            close(handle)
            if error.errno in _HELD:
                return False
            raise
        self._handle = handle
        _held_content_locks.add(self)
        return True

    def release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_UN)  # a forked child may still have the file open
            finally:
                close(handle)

    def __del__(self) -> None:
        """Release a lock that nobody has: the thread that took it ended after the event loop that waited for it."""
        with suppress(OSError):
            self.release()

    def close_after_fork(self) -> None:
        """Close the file in a forked process: the lock belongs to the parent."""
        if self._handle is not None:
            close(self._handle)
            self._handle = None


def _assert_readable(path: str) -> None:
    """Raise ENOLCK if the lock blocks readers, as on Windows shares: such a lock must not be held for long."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.read(1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EBUSY, errno.EIO):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), path) from error
        raise


def close(handle: int) -> None:
    """Close a file. An error loses nothing: what matters has been synced."""
    with suppress(OSError):
        os.close(handle)


def _after_fork() -> None:
    for lock in list(_held_content_locks):
        lock.close_after_fork()
    _held_content_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
