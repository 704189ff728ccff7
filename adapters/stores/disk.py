"""The disk operations of the auth.json store. Each step is one method, so a simulation can fail or stop at any step.

Every method blocks. Reads are brief: the files are a few kilobytes, and mostly in the system's cache. Writes wait for
the disk, so stores run them through `off_loop`.
"""

import asyncio
import errno
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from authstate.adapters.io.regular_files import read_regular_file
from authstate.adapters.stores.file_ownership import copy_ownership, is_mount_point, share_with_group, tighten
from authstate.adapters.stores.off_loop import completed, in_disk_thread
from authstate.adapters.stores.os_locks import ContentLock, DiskLock, FileLock, close
from authstate.adapters.stores.permissions import Finding, findings, is_of_another_user, reason_to_refuse
from authstate.engine.model.errors import StoreUnavailable

T = TypeVar("T")

_OPEN_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM})
TEMPORARY = ".tmp"
"""The suffix of every temporary file."""
_WINDOWS = sys.platform == "win32"


class Disk:
    """File operations by path. Every method raises OSError.

    On Windows a folder cannot be synced after a rename. File modes have no effect there: the folder's access list
    protects the file. A rename waits up to half a second for a reader to close the target.
    """

    async def off_loop(self, steps: Callable[[], T]) -> T:
        """Run steps in a thread, to their end. A cancellation of the caller is delivered at its next await."""
        return await completed(self.begin(steps))

    def begin(self, steps: Callable[[], T]) -> "asyncio.Future[T]":
        """Begin steps in a thread. Returns their result."""
        return in_disk_thread(steps)

    def read(self, path: str, limit: int) -> bytes:
        """Read the first `limit` bytes of a regular file. Never waits for a pipe or a device."""
        return read_regular_file(path, limit)

    def create(self, path: str) -> None:
        """Create an empty file that only this user can read and write (0600). It must not exist."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o600))

    def write(self, path: str, data: bytes) -> None:
        """Replace the content of an existing file. Space that was reserved in it is overwritten, not freed."""
        handle = os.open(path, os.O_WRONLY | _OPEN_FLAGS)
        try:
            _write_all(handle, data)
            os.ftruncate(handle, len(data))
        finally:
            os.close(handle)

    def sync(self, path: str) -> None:
        """Return when the content of a file is on the disk. On macOS, the drive's own cache is flushed as well."""
        handle = os.open(path, os.O_RDWR | _OPEN_FLAGS)
        try:
            if sys.platform == "darwin":
                import fcntl

                try:
                    fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
                    return
                except OSError:  # not supported by this file system: use fsync
                    pass
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: str, target: str) -> None:
        """Replace `target` with `source` atomically: a reader gets the complete old or the complete new file."""
        for _ in range(50 if _WINDOWS else 0):
            try:
                os.replace(source, target)
                return
            except PermissionError:
                time.sleep(0.01)
        os.replace(source, target)

    def sync_folder(self, folder: str) -> None:
        """Return when renames and removals in a folder are on the disk. Does nothing if a folder cannot be synced."""
        if _WINDOWS:
            return
        try:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise

    def publish(self, path: str, data: bytes, temporary: str) -> None:
        """Replace the content of a file atomically and durably: write `temporary`, then rename it."""
        try:
            self.create(temporary)
            self.copy_ownership(temporary, path)
            self.write(temporary, data)
            self.sync(temporary)
            self.rename(temporary, path)
        except OSError:
            with suppress(OSError):
                self.remove(temporary)
            raise
        self.sync_folder(os.path.dirname(path))

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def check_replaceable(self, target: str) -> None:
        """Raise the OSError that a rename onto a file would raise, without changing anything.

        A mount point cannot be replaced (EBUSY). `rmdir` of a file always fails. It fails with EACCES or EPERM exactly
        where a rename is not permitted: for another user's file in a sticky folder, and for an immutable file. On
        Windows this cannot be known in advance.
        """
        if is_mount_point(target):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), target)
        if _WINDOWS or not os.path.isfile(target):
            return
        try:
            os.rmdir(target)
        except PermissionError:
            raise
        except OSError:
            return

    def is_not_replaceable(self, target: str) -> bool:
        """Return whether a rename cannot replace a file: its folder is not writable, or `check_replaceable` raises."""
        try:
            self.check_replaceable(target)
        except OSError:
            return True
        folder, effective = os.path.dirname(target), os.access in os.supports_effective_ids
        return os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)

    def is_of_another_user(self, path: str) -> bool:
        """See `permissions.is_of_another_user`."""
        return is_of_another_user(path)

    def reason_to_refuse(self, path: str) -> str | None:
        """See `permissions.reason_to_refuse`."""
        return reason_to_refuse(path)

    def findings(self, path: str) -> list[Finding]:
        """See `permissions.findings`."""
        return findings(path)

    def exists(self, path: str) -> bool:
        """Return whether something has this path. Raises nothing."""
        return os.path.lexists(path)

    def copy_ownership(self, path: str, target: str) -> bool:
        """See `file_ownership.copy_ownership`."""
        return copy_ownership(path, target)

    def share_with_group(self, path: str) -> None:
        """See `file_ownership.share_with_group`."""
        share_with_group(path)

    def reserve_space(self, path: str, size: int) -> int:
        """Reserve space for a write in place, as white space at the end of the file: JSON allows it there.

        Returns:
            The previous size in bytes, for `release_space`.
        """
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | _OPEN_FLAGS)
        try:
            found = os.fstat(handle)
            if found.st_nlink == 0:
                raise OSError(errno.ESTALE, "The file that is mounted here was replaced where it comes from", path)
            try:
                _write_all(handle, b" " * size)
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, found.st_size)
                raise
            return found.st_size
        finally:
            close(handle)

    def overwrite(self, path: str, data: bytes) -> None:
        """Replace the content of a file in place, while others may be reading it.

        The first byte is `!` until the rest is written, so no reader takes a partial write for JSON. The file is
        truncated only once the new content is there. Its mode is tightened first, if this user may change it: see
        `file_ownership.tighten`.
        """
        handle = os.open(path, os.O_WRONLY | _OPEN_FLAGS)
        try:
            tighten(handle, os.path.dirname(path))
            _write_all(handle, b"!")
            _write_all(handle, data[1:])
            os.ftruncate(handle, len(data))
            os.lseek(handle, 0, os.SEEK_SET)
            _write_all(handle, data[:1])
        finally:
            close(handle)

    def release_space(self, path: str, size: int) -> None:
        """Release what `reserve_space` reserved, unless somebody has written there since."""
        handle = os.open(path, os.O_RDWR | _OPEN_FLAGS)
        try:
            os.lseek(handle, size, os.SEEK_SET)
            if not os.read(handle, 1 << 20).strip(b" "):
                os.ftruncate(handle, size)
        finally:
            close(handle)

    def list_folder(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(folder)

    def make_folder(self, path: str) -> None:
        """Create a folder that only this user can use (0700), unless it exists."""
        os.makedirs(path, mode=0o700, exist_ok=True)

    def resolve(self, path: str) -> str:
        """Resolve the symbolic links in a path. The file need not exist."""
        return os.path.realpath(path)

    def unique_name(self) -> str:
        """Return the unique part of a temporary file's name: PID.RANDOM."""
        return f"{self.process_id()}.{os.urandom(8).hex()}"

    def process_id(self) -> str:
        """Return the id of this process."""
        return str(os.getpid())

    def temporary_path(self, path: str) -> str:
        """Return a new path for a temporary file beside a file: PATH.PID.RANDOM.tmp."""
        return f"{path}.{self.unique_name()}{TEMPORARY}"

    def changed_at(self, path: str) -> float:
        """Return when a file or a folder was changed, in seconds since the epoch."""
        return os.stat(path).st_mtime

    def revision(self, path: str) -> tuple[int, ...] | None:
        """Return a value that changes with the file, None if there is no file."""
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def read_lock_file(self, path: str, limit: int) -> bytes:
        """Read what a lock file records, as `read` does."""
        return read_regular_file(path, limit)

    def write_lock_file(self, path: str, data: bytes) -> None:
        """Replace the content of an existing lock file. It is not synced, because no save depends on it."""
        handle = os.open(path, os.O_WRONLY | _OPEN_FLAGS)
        try:
            os.write(handle, data)
            os.ftruncate(handle, len(data))
        finally:
            os.close(handle)

    def lock(self, path: str) -> DiskLock:
        """Return a lock on a lock file, not yet taken. It excludes others on the same file, also in this process."""
        return FileLock(path)

    def lock_content(self, path: str) -> DiskLock | None:
        """Return a lock on a file itself, not yet taken. None if there is no such lock. See `ContentLock`."""
        return ContentLock.on(path)


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


_REMEDIES = {
    errno.EACCES: "give this user read and write access to it and to its folder",
    errno.EBUSY: "mount its folder instead of the file",
    errno.ESTALE: "restart the container, and mount the folder instead of the file",
    errno.EPERM: "give this user read and write access to it and to its folder",
    errno.EROFS: "set CODEX_HOME to a folder that can be written",
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some space: this user's quota is used up",
    errno.ENOTDIR: "set CODEX_HOME to a folder: a part of this path is a file",
    errno.EEXIST: "set CODEX_HOME to a folder: there is something else of this name",
    errno.EISDIR: "move the folder of this name away: a file belongs there",
    errno.ENXIO: "move what has this name away: a file belongs there",
    errno.ENOENT: "the folder is gone: make it again",
    errno.ELOOP: "remove the symbolic link: it leads in a circle or where none may be",
}


def unavailable(doing: str, place: str, error: OSError) -> StoreUnavailable:
    """Return an error for a person: the operation that failed, the file, the cause, and what to do."""
    why = (error.strerror or type(error).__name__).lower()
    remedy = _REMEDIES.get(error.errno or 0, "see to the disk, then try again")
    return StoreUnavailable(f"cannot {doing} {place}: {why}: {remedy}")
