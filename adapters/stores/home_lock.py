"""The lock between processes: a file beside auth.json that the operating system locks, whichever store holds the login.

The operating system unlocks it when its process dies. All stores of a home take the same lock, so a process that uses
the keyring and one that uses the file exclude each other.

The file also records the last saves under the lock: a digest, never a token, with the time and the process. They show
whether a change was made under the lock or by a program that does not take it.

codex has its own locks, and they do not fit. codex 0.169.0 has `auth.lock` and `auth.json.lock`, and holds them only to
write, after its request to the issuer. So they cannot keep two programs from spending one token. Also, codex waits for
them at most 5 s: then it gives up, and the tokens that it received are lost. Our lock is held while the issuer is
asked, so it has its own name.

auth.json itself is locked as well, where possible. Two containers that mount the same file have no folder in common. A
user who cannot open or create the lock file, for example because it belongs to another user, has no other lock. A file
that will replace auth.json is locked before the rename. os_locks.py contains both kinds of lock, and the fallback where
there are no locks.

On Windows the lock file records nothing, because nobody can write to a locked file, and `filelock` removes it
afterwards.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec

from authstate.adapters.stores.disk import Disk, unavailable
from authstate.adapters.stores.os_locks import ContentLock, DiskLock
from authstate.engine.model.errors import StoreBusy
from authstate.engine.ports import Clock

T = TypeVar("T")

_WAIT = 0.02  # seconds between two tries
_SAVES_KEPT = 2  # how many saves the file records: the last one may not have completed
_LARGEST = 4096  # bytes
_SUFFIX = ".authstate.lock"
_NOT_PERMITTED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors that mean: this user may not open or create the lock file."""


class SaveRecord(msgspec.Struct, frozen=True):
    """One save under the lock."""

    digest: str
    at: float
    """Seconds since the epoch."""
    pid: int


class HeldLock:
    """The lock while it is held. `target` is the locked file: auth.json, or the target of its symbolic link."""

    def __init__(self, home: "HomeLock", target: str, locks: list[DiskLock]) -> None:
        self.target = target
        self._home = home
        self._locks = locks

    @property
    def may_write_in_place(self) -> bool:
        """Whether this user may write the locked file."""
        return any(isinstance(lock, ContentLock) and lock.is_writable for lock in self._locks)

    def extend(self, temporary: str) -> None:
        """Lock the file that is about to replace the locked one, for processes that cannot open the lock file."""
        lock = self._home.lock_of_content(temporary)
        with suppress(OSError):
            if lock is not None and lock.acquire():
                self._locks.append(lock)

    def record_save(self, digest: str) -> None:
        """Record what is about to be saved. Errors are ignored, because no save depends on the record."""
        if any(lock.has_lasting_file for lock in self._locks):
            self._home.record_save(digest)

    def release(self) -> None:
        """Release the lock."""
        for lock in reversed(self._locks):
            with suppress(OSError):
                lock.release()


class HomeLock:
    """The lock of one home.

    Args:
        home: the folder. The first `acquire` creates it, for this user only.
        disk: provides the locks.
        clock: times the waits.
        timeout: seconds to wait before `StoreBusy`.
    """

    def __init__(self, home: str, disk: Disk, clock: Clock, timeout: float) -> None:
        self._home = home
        self._path = os.path.join(home, "auth.json")
        self._disk = disk
        self._clock = clock
        self._timeout = timeout
        self._lasting_file: str | None = None  # the lock file, once it has existed, if releasing keeps it

    async def acquire(self, then: Callable[[HeldLock], T]) -> T:
        """Wait for the lock, take it, and return what `then` makes of it. Nothing is awaited after that. A caller that
        is cancelled just then has the lock, and the cancellation is delivered at its next await.

        Args:
            then: is called with the lock in the step that takes it. If it raises, the lock is released.

        Raises StoreBusy after the timeout, naming the process that holds the lock if it is known, and StoreUnavailable
        if no lock is possible. Cancellation while waiting leaves no lock behind.
        """
        deadline = self._clock.monotonic() + self._timeout
        files: dict[str, DiskLock] = {}
        while True:
            taken = await self._disk.off_loop(lambda: self._take_and(files, then))
            if taken:
                return taken[0]
            if self._clock.monotonic() >= deadline:
                raise StoreBusy(await self._disk.off_loop(self._describe_holder))
            await self._clock.sleep(_WAIT)

    def _describe_holder(self) -> str:
        """Say who holds the lock, and what to do."""
        target = self._disk.resolve(self._path)
        lock_file = target + _SUFFIX
        return (
            f"{lock_file} is held by {_holder(lock_file, target)} for more than {self._timeout:g} s: "
            "wait for it to finish, or end it, then try again"
        )

    def _take_and(self, files: dict[str, DiskLock], then: Callable[[HeldLock], T]) -> tuple[T] | None:
        """Do `_take`, then `then`."""
        taken = self._take(files)
        if taken is None:
            return None
        try:
            return (then(taken),)
        except BaseException:
            taken.release()
            raise

    def _take(self, files: dict[str, DiskLock]) -> HeldLock | None:
        """Take the lock without waiting. None if somebody holds it, or if a link was changed meanwhile.

        Args:
            files: the locks that were created so far, by file.

        Raises:
            StoreUnavailable: no lock is possible.
        """
        self._make_home()
        target = self._disk.resolve(self._path)
        try:
            taken = self._try(target, files)
        except OSError as error:
            raise unavailable("lock", target + _SUFFIX, error) from error
        if taken is None or self._disk.resolve(self._path) == target:
            return taken
        taken.release()
        return None

    def try_acquire(self) -> HeldLock | None:
        """Take the lock without waiting. None if somebody holds it, or if no lock is possible."""
        try:
            return self._try(self._disk.resolve(self._path), {})
        except OSError:
            return None

    def lock_of_content(self, path: str) -> DiskLock | None:
        """See `Disk.lock_content`."""
        return self._disk.lock_content(path)

    def _try(self, target: str, files: dict[str, DiskLock]) -> HeldLock | None:
        """Take the lock file, and then the file itself, without waiting. None if somebody holds one of them.

        If the lock file cannot be opened, the file itself is enough, provided that this user may write it.

        Args:
            target: the file to lock.
            files: the locks that were created so far, by file.

        Raises:
            OSError: no lock is possible.
        """
        locks: list[DiskLock] = []
        fault: OSError | None = None
        try:
            if target not in files:
                files[target] = self._disk.lock(target + _SUFFIX)
            if not files[target].acquire():
                return None
            locks.append(files[target])
            self._lasting_file = target + _SUFFIX if files[target].has_lasting_file else None
        except OSError as error:
            if error.errno not in _NOT_PERMITTED:
                raise
            fault = error
        taken = HeldLock(self, target, locks)
        is_free = self._try_content(target, locks, fault)
        is_foreign = isinstance(fault, PermissionError) and self._disk.is_of_another_user(target + _SUFFIX)
        may_do_without = taken.may_write_in_place and (is_foreign or self._disk.is_not_replaceable(target))
        if is_free and (fault is None or may_do_without):
            return taken
        taken.release()
        if is_free and fault is not None:
            if not is_foreign:
                raise fault
            self._remove_foreign(target + _SUFFIX, fault)
            return self._try(target, {})
        return None

    def _remove_foreign(self, lock_file: str, fault: OSError) -> None:
        """Remove another user's lock file from a folder that this user may write, so that it can be created anew.

        The other user's program reads the new login before it writes. Raises `fault` if the file cannot be removed.
        """
        try:
            self._disk.remove(lock_file)
        except OSError:
            raise fault from None

    def _try_content(self, target: str, locks: list[DiskLock], fault: OSError | None) -> bool:
        """Take the lock on the file itself, if it can be locked. Return False if somebody holds it."""
        content = self._disk.lock_content(target)
        if content is None:
            return True
        try:
            if not content.acquire():
                return False
        except OSError:
            return True  # the file is gone, not accessible or not lockable: the lock file is enough
        locks.append(content)
        return True

    def revision(self) -> object:
        """See `HasRevision`. It covers auth.json and the recorded saves, which every store of the home writes."""
        target = self._disk.resolve(self._path)
        lock_file = target + _SUFFIX
        try:
            revision = self._disk.revision(target), self._disk.revision(lock_file), self._saves_in(lock_file)
        except OSError:
            return None
        if revision[2]:
            self._lasting_file = lock_file
        return revision

    def is_home_missing(self) -> bool:
        """Return whether the lock file existed and is gone. Raises OSError.

        No program removes it, so the home was moved, deleted or unmounted.
        """
        lock_file = self._disk.resolve(self._path) + _SUFFIX
        return self._lasting_file == lock_file and self._disk.revision(lock_file) is None

    def recent_saves(self) -> list[SaveRecord]:
        """Return the last saves under the lock, the oldest first. Empty if nothing is known."""
        return self._saves_in(self._disk.resolve(self._path) + _SUFFIX)

    def _saves_in(self, lock_file: str) -> list[SaveRecord]:
        try:
            data = self._disk.read_lock_file(lock_file, _LARGEST)
            return msgspec.json.decode(data or b"[]", type=list[SaveRecord])
        except (OSError, msgspec.DecodeError):
            return []

    def record_save(self, digest: str) -> None:
        """Record a save, and drop all but the last ones. Requires the lock."""
        lock_file = self._disk.resolve(self._path) + _SUFFIX
        others = [save for save in self._saves_in(lock_file) if save.digest != digest]
        saves = [*others, SaveRecord(digest, self._clock.now(), os.getpid())][-_SAVES_KEPT:]
        with suppress(OSError):
            self._disk.write_lock_file(lock_file, msgspec.json.encode(saves))

    def _make_home(self) -> None:
        try:
            self._disk.make_folder(self._home)
        except OSError as error:
            raise unavailable("use the folder", self._home, error) from error


def _holder(*files: str) -> str:
    """Describe who holds a lock on one of these files, for a person. Only Linux provides this."""
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as table:
            lines = [line.split() for line in table]
    except OSError:
        return "another process"
    for file in files:
        if (pid := _pid_of(file, lines)) is not None:
            return "another part of this process" if pid == os.getpid() else f"process {pid}"
    return "another process"


def _pid_of(file: str, lines: list[list[str]]) -> int | None:
    """Return the process that holds a lock on a file, from the lines of /proc/locks."""
    try:
        place = os.stat(file)
    except OSError:
        return None
    device = f"{os.major(place.st_dev):02x}:{os.minor(place.st_dev):02x}"
    pids: dict[bool, str] = {}
    for line in lines:
        if len(line) < 6 or line[1] == "->" or not line[4].isdecimal() or line[4] == "0":
            continue
        found, _, inode = line[5].rpartition(":")
        if inode == str(place.st_ino):
            pids[found == device] = line[4]
    pid = pids.get(True) or pids.get(False)
    return None if pid is None else int(pid)
