"""What the auth.json store asks of a disk, each step by itself, so that a simulation can fail or stop at any of them.

All calls block, briefly: the files are a few kilobytes. Blocking keeps each step whole: no task switch and no
cancellation can come between the start and the end of one.
"""

import errno
import os
import sys
import time
from contextlib import suppress

from authstate.adapters.io.files import read_regular_file
from authstate.adapters.stores.file_ownership import copy_ownership, is_mount_point, share_with_group, tighten
from authstate.adapters.stores.os_locks import ContentLock, DiskLock, FileLock, close
from authstate.adapters.stores.permissions import Finding, findings, is_of_another_user, reason_to_refuse
from authstate.engine.model.errors import StoreUnavailable

_PLAIN = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM})
TEMPORARY = ".tmp"
"""How the name of every temporary file ends."""
_WINDOWS = sys.platform == "win32"


class Disk:
    """Files by path. Every method raises OSError.

    On Windows a folder cannot be synced (the rename itself is all there is), file modes mean nothing (the folder's
    access list protects the file), and a rename waits up to half a second for a reader to let go of the target.
    """

    def read(self, path: str, limit: int) -> bytes:
        """The first `limit` bytes of a regular file. Never waits for a pipe or a device."""
        return read_regular_file(path, limit)

    def create(self, path: str) -> None:
        """Make an empty file that only this user can read and write (0600). It must not exist."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o600))

    def write(self, path: str, data: bytes) -> None:
        """Make `data` the content of a file that exists. What was reserved there before is written over, not freed."""
        handle = os.open(path, os.O_WRONLY | _PLAIN)
        try:
            _write_all(handle, data)
            os.ftruncate(handle, len(data))
        finally:
            os.close(handle)

    def sync(self, path: str) -> None:
        """Return when the file's content is on the disk. On macOS past the drive's own cache, too."""
        handle = os.open(path, os.O_RDWR | _PLAIN)
        try:
            if sys.platform == "darwin":
                import fcntl

                try:
                    fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
                    return
                except OSError:  # a file system that cannot: the plain one is what is left
                    pass
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: str, target: str) -> None:
        """Put a file in another's place, atomically: whoever opens `target` finds the old or the new, whole."""
        for _ in range(50 if _WINDOWS else 0):
            try:
                os.replace(source, target)
                return
            except PermissionError:
                time.sleep(0.01)
        os.replace(source, target)

    def sync_folder(self, folder: str) -> None:
        """Return when renames and removals in the folder are on the disk. Does nothing where a folder has no sync."""
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
        """Make `data` the content of a file, whole and for good: by way of `temporary`, in the steps above."""
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
        """Raise the OSError with which a rename onto a file would fail, without changing anything.

        A mount point cannot be replaced (EBUSY). `rmdir` of a file always fails, and with EACCES or EPERM exactly where
        a rename is not permitted: another user's file in a sticky folder, or an immutable file. On Windows nothing is
        known beforehand.
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
        """Whether a file cannot be replaced by a rename: this user may not write in its folder, or
        `check_replaceable` fails.
        """
        try:
            self.check_replaceable(target)
        except OSError:
            return True
        folder, effective = os.path.dirname(target), os.access in os.supports_effective_ids
        return os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)

    def is_of_another_user(self, path: str) -> bool:
        """See `is_of_another_user`."""
        return is_of_another_user(path)

    def reason_to_refuse(self, path: str) -> str | None:
        """See `permissions.reason_to_refuse`."""
        return reason_to_refuse(path)

    def findings(self, path: str) -> list[Finding]:
        """See `permissions.findings`."""
        return findings(path)

    def exists(self, path: str) -> bool:
        """Whether there is something of this name. Raises nothing."""
        return os.path.lexists(path)

    def copy_ownership(self, path: str, target: str) -> bool:
        """Give a new file the owner, group and mode with which it takes the place of `target`. See `ownership`."""
        return copy_ownership(path, target)

    def share_with_group(self, path: str) -> None:
        """See `share_with_group`."""
        share_with_group(path)

    def reserve_space(self, path: str, size: int) -> int:
        """Reserve space at the end of a file that must be written in place, as white space: JSON allows it there.

        Returns:
            The size before, in bytes, to `release_space` it back to.
        """
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | _PLAIN)
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
        """Make `data` the content of a file that others may be reading. Until it is, the first byte is `!`, so that
        nobody takes a part of it for JSON. Nothing is cut off before the new content is there. The mode is tightened
        first, if it is this user's to change: see `ownership`.
        """
        handle = os.open(path, os.O_WRONLY | _PLAIN)
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
        """Take back what `reserve_space` reserved, if nobody wrote there since."""
        handle = os.open(path, os.O_RDWR | _PLAIN)
        try:
            os.lseek(handle, size, os.SEEK_SET)
            if not os.read(handle, 1 << 20).strip(b" "):
                os.ftruncate(handle, size)
        finally:
            close(handle)

    def list_folder(self, folder: str) -> list[str]:
        """The names in a folder."""
        return os.listdir(folder)

    def make_folder(self, path: str) -> None:
        """Make a folder that only this user can use (0700), unless it is there."""
        os.makedirs(path, mode=0o700, exist_ok=True)

    def resolve(self, path: str) -> str:
        """The file that a path leads to through symbolic links; it need not exist."""
        return os.path.realpath(path)

    def unique_name(self) -> str:
        """What makes the name of a temporary file unique: PID.RANDOM."""
        return f"{self.process_id()}.{os.urandom(8).hex()}"

    def process_id(self) -> str:
        """The number of this process."""
        return str(os.getpid())

    def temporary_path(self, path: str) -> str:
        """A new name for a temporary file beside a file: PATH.PID.RANDOM.tmp."""
        return f"{path}.{self.unique_name()}{TEMPORARY}"

    def changed_at(self, path: str) -> float:
        """When a file or a folder was changed, in seconds since the epoch."""
        return os.stat(path).st_mtime

    def revision(self, path: str) -> tuple[int, ...] | None:
        """What is other after a change of a file; None while there is none."""
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def read_lock_file(self, path: str, limit: int) -> bytes:
        """What was noted in a lock file, as `read` reads it."""
        return read_regular_file(path, limit)

    def write_lock_file(self, path: str, data: bytes) -> None:
        """Make `data` the content of a lock file that exists. It is not synced: it only explains."""
        handle = os.open(path, os.O_WRONLY | _PLAIN)
        try:
            os.write(handle, data)
            os.ftruncate(handle, len(data))
        finally:
            os.close(handle)

    def lock(self, path: str) -> DiskLock:
        """A new lock on a lock file, not yet taken. Another one on the same file excludes it, in this process, too."""
        return FileLock(path)

    def lock_content(self, path: str) -> DiskLock | None:
        """A new lock on a file itself, not yet taken; None where there is none. See `ContentLock`."""
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
    """The error for a person: what could not be done, with which file, why, and what to do."""
    why = (error.strerror or type(error).__name__).lower()
    remedy = _REMEDIES.get(error.errno or 0, "see to the disk, then try again")
    return StoreUnavailable(f"cannot {doing} {place}: {why}: {remedy}")
