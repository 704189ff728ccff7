"""The lock between processes: a file beside auth.json that the operating system locks, whatever keeps the credentials.

The operating system unlocks it when its process dies. All stores of one home take the same lock, so a process that
keeps the login in the keyring and one that keeps it in the file exclude each other.

The file also holds what was last saved under the lock, as a digest and never as a token, with the time and the process.
So a change by a program that does not take the lock can be told from a change by one that does.

Why not a lock of codex's own. 0.169.0 has two, `auth.lock` and `auth.json.lock`, and holds them only to write: its
request to the issuer comes before, so they cannot keep two programs from spending one token. And it must never wait
long for them: after 5 s it gives up, and the tokens that it was sent are lost. Our lock is held while the issuer is
asked, so it has a name of its own.

auth.json itself is locked, too, where that is possible: two containers that mount the same file have no folder in
common, and a user who may not open the lock file (it is another user's, or cannot be made) has no other lock. A file
that takes its place is locked before. os_locks.py has both kinds, and what happens where there are no locks.

On Windows nothing is noted in the lock file, because nobody can write to a file that is locked, and `filelock` removes
it afterwards.
"""

import errno
import os
from contextlib import suppress

import msgspec

from authstate.adapters.stores.disk import Disk, unavailable
from authstate.adapters.stores.os_locks import ContentLock, DiskLock
from authstate.engine.model.errors import StoreBusy
from authstate.engine.ports import Clock

_WAIT = 0.02  # seconds between two tries
_SAVES_KEPT = 2  # how many saves the file remembers: the last one may not have reached its end
_LARGEST = 4096  # bytes
_TAIL = ".authstate.lock"
_NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""How a lock file, or its folder, tells that this user may not open or make one there."""


class SaveRecord(msgspec.Struct, frozen=True):
    """One save under the lock."""

    digest: str
    at: float
    """Seconds since the epoch."""
    pid: int


class HeldLock:
    """The lock, held. `target` is the file that it is for: auth.json, or what auth.json is a symbolic link to."""

    def __init__(self, home: "HomeLock", target: str, locks: list[DiskLock]) -> None:
        self.target = target
        self._home = home
        self._locks = locks

    @property
    def may_write_in_place(self) -> bool:
        """Whether this user may write the file that is there."""
        return any(isinstance(lock, ContentLock) and lock.is_writable for lock in self._locks)

    def extend(self, temporary: str) -> None:
        """Lock the file that is about to take the place of the locked one, for who cannot open the lock file."""
        lock = self._home.lock_of_content(temporary)
        with suppress(OSError):
            if lock is not None and lock.acquire():
                self._locks.append(lock)

    def record_save(self, digest: str) -> None:
        """Note what is about to be saved. A note that cannot be written is left out: it only explains."""
        if any(lock.has_lasting_file for lock in self._locks):
            self._home.record_save(digest)

    def release(self) -> None:
        """Let the next one in."""
        for lock in reversed(self._locks):
            with suppress(OSError):
                lock.release()


class HomeLock:
    """The lock of one home.

    Args:
        home: the folder. The first `acquire` makes it, for this user only.
        disk: what the lock is made of.
        clock: for the waits.
        timeout: seconds to wait before `StoreBusy`.
    """

    def __init__(self, home: str, disk: Disk, clock: Clock, timeout: float) -> None:
        self._home = home
        self._path = os.path.join(home, "auth.json")
        self._disk = disk
        self._clock = clock
        self._timeout = timeout
        self._lasting_file: str | None = None  # the lock file, once it was there and is one that stays

    async def acquire(self) -> HeldLock:
        """Wait for the lock and take it. There is no wait after it is taken.

        Raises StoreBusy after the timeout, with the process that holds it where that can be known, and
        StoreUnavailable where there can be no lock. Cancellation leaves no lock behind.
        """
        self._make_home()
        deadline = self._clock.monotonic() + self._timeout
        files: dict[str, DiskLock] = {}
        while True:
            target = self._disk.resolve(self._path)
            lock_file = target + _TAIL
            try:
                taken = self._try(target, files)
            except OSError as error:
                raise unavailable("lock", lock_file, error) from error
            if taken is not None:
                if self._disk.resolve(self._path) == target:
                    return taken
                taken.release()
            if self._clock.monotonic() >= deadline:
                raise StoreBusy(
                    f"{lock_file} is held by {_holder(lock_file, target)} for more than {self._timeout:g} s: "
                    "wait for it to finish, or end it, then try again"
                )
            await self._clock.sleep(_WAIT)

    def try_acquire(self) -> HeldLock | None:
        """Take the lock without a wait; None while somebody holds it, or where there can be no lock."""
        try:
            return self._try(self._disk.resolve(self._path), {})
        except OSError:
            return None

    def lock_of_content(self, path: str) -> DiskLock | None:
        """See `Disk.lock_content`."""
        return self._disk.lock_content(path)

    def _try(self, target: str, files: dict[str, DiskLock]) -> HeldLock | None:
        """Take the lock file, and then the file itself, without a wait; None while somebody holds one of them.

        Where the lock file cannot be opened, the file itself is enough if this user may write it.

        Args:
            target: the file that is locked.
            files: the locks that were made by now, by file.

        Raises:
            OSError: there can be no lock.
        """
        locks: list[DiskLock] = []
        fault: OSError | None = None
        try:
            if target not in files:
                files[target] = self._disk.lock(target + _TAIL)
            if not files[target].acquire():
                return None
            locks.append(files[target])
            self._lasting_file = target + _TAIL if files[target].has_lasting_file else None
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise
            fault = error
        taken = HeldLock(self, target, locks)
        is_free = self._try_content(target, locks, fault)
        is_foreign = isinstance(fault, PermissionError) and self._disk.is_of_another_user(target + _TAIL)
        may_do_without = taken.may_write_in_place and (is_foreign or self._disk.is_not_replaceable(target))
        if is_free and (fault is None or may_do_without):
            return taken
        taken.release()
        if is_free and fault is not None:
            if not is_foreign:
                raise fault
            self._remove_foreign(target + _TAIL, fault)
            return self._try(target, {})
        return None

    def _remove_foreign(self, lock_file: str, fault: OSError) -> None:
        """Remove a lock file that another user left, in a folder that this user may write, so that it can be made anew.
        That user's program sees the new login before it writes. Raises `fault` where it cannot be removed.
        """
        try:
            self._disk.remove(lock_file)
        except OSError:
            raise fault from None

    def _try_content(self, target: str, locks: list[DiskLock], fault: OSError | None) -> bool:
        """Take the file itself, where it can be locked; False while somebody holds it."""
        content = self._disk.lock_content(target)
        if content is None:
            return True
        try:
            if not content.acquire():
                return False
        except OSError:
            return True  # no such file any more, one that this user may not open, or no locks: the lock file counts
        locks.append(content)
        return True

    def revision(self) -> object:
        """See `HasRevision`: of auth.json, and of the saves, which every store of the home leaves."""
        target = self._disk.resolve(self._path)
        lock_file = target + _TAIL
        try:
            revision = self._disk.revision(target), self._disk.revision(lock_file), self.recent_saves()
        except OSError:
            return None
        if revision[2]:
            self._lasting_file = lock_file
        return revision

    def is_home_missing(self) -> bool:
        """Whether the lock file is gone that was there and stays. No program removes it: so it went with the home,
        which was moved or deleted, or is not mounted. Raises OSError.
        """
        lock_file = self._disk.resolve(self._path) + _TAIL
        return self._lasting_file == lock_file and self._disk.revision(lock_file) is None

    def recent_saves(self) -> list[SaveRecord]:
        """The last saves under the lock, the oldest first; none where nothing can be known."""
        try:
            data = self._disk.read_lock_file(self._disk.resolve(self._path) + _TAIL, _LARGEST)
            return msgspec.json.decode(data or b"[]", type=list[SaveRecord])
        except (OSError, msgspec.DecodeError):
            return []

    def record_save(self, digest: str) -> None:
        """Add a mark, and forget all but the last ones. For who holds the lock."""
        others = [save for save in self.recent_saves() if save.digest != digest]
        saves = [*others, SaveRecord(digest, self._clock.now(), os.getpid())][-_SAVES_KEPT:]
        with suppress(OSError):
            self._disk.write_lock_file(self._disk.resolve(self._path) + _TAIL, msgspec.json.encode(saves))

    def _make_home(self) -> None:
        try:
            self._disk.make_folder(self._home)
        except OSError as error:
            raise unavailable("use the folder", self._home, error) from error


def _holder(*files: str) -> str:
    """Who holds a lock on one of these files, for a person. Linux tells; elsewhere nobody does."""
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
    """The process that holds a lock on a file, from the lines of /proc/locks."""
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
