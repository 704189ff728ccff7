"""The lock between processes: a file beside auth.json that the operating system locks, whatever keeps the credentials.

The operating system unlocks it when its process dies. All stores of one home take the same lock, so a process that
keeps the login in the keyring and one that keeps it in the file exclude each other.

The file also holds what was last saved under the lock, as a digest and never as a token, with the time and the process.
So a change by a program that does not take the lock can be told from a change by one that does.

Why not a lock of codex's own. 0.169.0 has two, `auth.lock` and `auth.json.lock`, and holds them only to write: its
request to the issuer comes before, so they cannot keep two programs from spending one token. And it must never wait
long for them: after 5 s it gives up, and the tokens that it was sent are lost. Our lock is held while the issuer is
asked, so it has a name of its own.

Where the file system has no file locks, `filelock` falls back to a lock that is the existence of a file, and what the
file holds tells whether its process still lives. Then nothing is noted in it. Nor is anything on Windows, where nobody
can write to a file that is locked, and `filelock` removes it afterwards.
"""

import os
from contextlib import suppress

import msgspec

from authstate.adapters.stores.disk import Disk, DiskLock, unavailable
from authstate.engine.errors import StoreBusy
from authstate.engine.ports import Clock

_WAIT = 0.02  # seconds between two tries
_MARKS = 2  # how many saves the file remembers: the last one may not have reached its end
_LARGEST = 4096  # bytes
_TAIL = ".authstate.lock"


class Mark(msgspec.Struct, frozen=True):
    """One save under the lock."""

    digest: str
    at: float
    """Seconds since the epoch."""
    pid: int


class TakenLock:
    """The lock, held. `target` is the file that it is for: auth.json, or what auth.json is a symbolic link to."""

    def __init__(self, home: "HomeLock", target: str, lock: DiskLock) -> None:
        self.target = target
        self._home = home
        self._lock = lock

    def mark(self, digest: str) -> None:
        """Note what is about to be saved. A note that cannot be written is left out: it only explains."""
        if self._lock.takes_notes:
            self._home.note(digest)

    def release(self) -> None:
        """Let the next one in."""
        with suppress(OSError):
            self._lock.release()


class HomeLock:
    """The lock of one home.

    Args:
        home: the folder. The first `take` makes it, for this user only.
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
        self._lasting: str | None = None  # the lock file, once it was there and is one that stays

    async def take(self) -> TakenLock:
        """Wait for the lock and take it. There is no wait after it is taken.

        Raises StoreBusy after the timeout, with the process that holds it where that can be known, and
        StoreUnavailable where there can be no lock. Cancellation leaves no lock behind.
        """
        self._make_home()
        deadline = self._clock.monotonic() + self._timeout
        locks: dict[str, DiskLock] = {}
        while True:
            target = self._disk.resolve(self._path)
            lock_file = target + _TAIL
            lock = locks.get(target)
            try:
                if lock is None:
                    lock = locks[target] = self._disk.lock(lock_file)
                taken = lock.acquire()
            except OSError as error:
                raise unavailable("lock", lock_file, error) from error
            if taken:
                self._lasting = lock_file if lock.takes_notes else None
                if self._disk.resolve(self._path) == target:
                    return TakenLock(self, target, lock)
                lock.release()
            if self._clock.monotonic() >= deadline:
                raise StoreBusy(
                    f"{lock_file} is held by {_holder(lock_file)} for more than {self._timeout:g} s: "
                    "wait for it to finish, or end it, then try again"
                )
            await self._clock.sleep(_WAIT)

    def take_if_free(self) -> TakenLock | None:
        """Take the lock without a wait; None while somebody holds it, or where there can be no lock."""
        target = self._disk.resolve(self._path)
        try:
            lock = self._disk.lock(target + _TAIL)
            return TakenLock(self, target, lock) if lock.acquire() else None
        except OSError:
            return None

    def stamp(self) -> object:
        """See `ChangeStamp`: of auth.json, and of the marks, which every store of the home leaves."""
        target = self._disk.resolve(self._path)
        lock_file = target + _TAIL
        try:
            stamp = self._disk.stamp(target), self._disk.stamp(lock_file), self.marks()
        except OSError:
            return None
        if stamp[2]:
            self._lasting = lock_file
        return stamp

    def is_home_gone(self) -> bool:
        """Whether the lock file is gone that was there and stays. No program removes it: so it went with the home,
        which was moved or deleted, or is not mounted. Raises OSError.
        """
        lock_file = self._disk.resolve(self._path) + _TAIL
        return self._lasting == lock_file and self._disk.stamp(lock_file) is None

    def marks(self) -> list[Mark]:
        """The last saves under the lock, the oldest first; none where nothing can be known."""
        try:
            data = self._disk.noted(self._disk.resolve(self._path) + _TAIL, _LARGEST)
            return msgspec.json.decode(data or b"[]", type=list[Mark])
        except (OSError, msgspec.DecodeError):
            return []

    def note(self, digest: str) -> None:
        """Add a mark, and forget all but the last ones. For who holds the lock."""
        others = [mark for mark in self.marks() if mark.digest != digest]
        marks = [*others, Mark(digest, self._clock.now(), os.getpid())][-_MARKS:]
        with suppress(OSError):
            self._disk.note(self._disk.resolve(self._path) + _TAIL, msgspec.json.encode(marks))

    def _make_home(self) -> None:
        try:
            self._disk.make_folder(self._home)
        except OSError as error:
            raise unavailable("use the folder", self._home, error) from error


def _holder(lock_file: str) -> str:
    """Who holds the lock, for a person. Linux tells; elsewhere nobody does."""
    try:
        place = os.stat(lock_file)
        with open("/proc/locks", encoding="ascii", errors="replace") as table:
            lines = [line.split() for line in table]
    except OSError:
        return "another process"
    device = f"{os.major(place.st_dev):02x}:{os.minor(place.st_dev):02x}"
    pids: dict[bool, str] = {}
    for line in lines:
        if len(line) < 6 or line[1] == "->" or not line[4].isdecimal() or line[4] == "0":
            continue
        found, _, inode = line[5].rpartition(":")
        if inode == str(place.st_ino):
            pids[found == device] = line[4]
    pid = pids.get(True) or pids.get(False)
    if pid is None:
        return "another process"
    return "another part of this process" if int(pid) == os.getpid() else f"process {pid}"
