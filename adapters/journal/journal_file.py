"""The files of a journal: a ring of two. Each process appends to the first one; when it is full, it becomes the second.

A batch of lines is one write with O_APPEND, so the lines of several processes never mix. Nothing here is synced: a
power cut may cost the last lines, and a refresh does not wait for a journal. A file is made with mode 0600, one with a
wider mode is tightened, and none holds a secret. No method raises anything: a login never fails because of its journal.
"""

import errno
import os
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from authstate.adapters.logs.loggers import library_logger
from authstate.adapters.stores.file_ownership import give_to_owner_of_folder, share_with_group, tighten

_FLAGS = (
    os.O_RDWR
    | os.O_APPEND
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
_MOST_WAITING = 512
"""Lines that are kept in memory while the disk does not take them. Of more, the oldest are dropped."""
_TRY_AGAIN = 30.0  # seconds
_WINDOWS = sys.platform == "win32"
_log = library_logger("journal")


class JournalFile:
    """Appends to the journal of a home. Its methods may be called in any thread.

    Args:
        path: of the first file.
        size: bytes that both files together may have, about.
        now: the monotonic clock.
    """

    def __init__(self, path: str, size: int, now: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._most = size // 2
        self._now = now
        self._has_complained = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget the lines that wait, and who holds the lock: in a forked child, both are its parent's."""
        self._waiting: deque[Callable[[], bytes]] = deque(maxlen=_MOST_WAITING)
        self._lock = threading.Lock()
        self._quiet_until = float("-inf")
        self._is_stuck = False  # the last lines could not be written

    @property
    def predecessor(self) -> str:
        """The path of the second file."""
        return self.path + ".1"

    @property
    def has_waiting(self) -> bool:
        """Whether lines wait that may be tried now."""
        return bool(self._waiting) and not self._is_stuck

    @property
    def is_busy(self) -> bool:
        """Whether lines wait, or are being written."""
        return bool(self._waiting) or self._lock.locked()

    def put(self, line: Callable[[], bytes]) -> None:
        """Take a line. It is made and written by the next `drain`. Costs about a microsecond."""
        self._waiting.append(line)

    def drain(self, patience: float = -1) -> None:
        """Write all lines that wait. After a failure, nothing is tried for half a minute. Blocks; raises nothing.

        Args:
            patience: seconds to wait for another thread that writes. By default, as long as that takes.
        """
        if not self._lock.acquire(timeout=patience):
            return
        try:
            if self._waiting and self._now() >= self._quiet_until:
                self._write([self._waiting.popleft() for _ in range(len(self._waiting))])
        finally:
            self._lock.release()

    def _write(self, lines: list[Callable[[], bytes]]) -> None:
        try:
            if made := b"".join(_made(line) for line in lines):
                self._append(made)
            self._is_stuck = False
        except Exception as fault:
            room = _MOST_WAITING - len(self._waiting)
            self._waiting.extendleft(reversed(lines[max(0, len(lines) - room) :]))
            self._is_stuck = True
            self._give_up(fault)

    def _give_up(self, fault: Exception) -> None:
        """Say once why nothing is written. A home that does not exist yet is no fault: a login makes it."""
        if isinstance(fault, FileNotFoundError):
            return
        self._quiet_until = self._now() + _TRY_AGAIN
        if not self._has_complained:
            self._has_complained = True
            why = fault.strerror if isinstance(fault, OSError) else type(fault).__name__
            _log.warning("%s is not written (%s): the login works without it", self.path, why)

    def _append(self, data: bytes) -> None:
        handle = self._open_with_room()
        try:
            size = os.fstat(handle).st_size
            if size and not _ends_line(handle):
                data = b"\n" + data  # somebody was killed while writing: only that line is lost
            if os.write(handle, data) != len(data):
                raise OSError(errno.ENOSPC, "no space left on device")
            is_full = size + len(data) > self._most
            if is_full and not _WINDOWS:
                self._turn_locked(handle)
        finally:
            os.close(handle)
        if is_full and _WINDOWS:  # where no open file can be renamed
            self._turn()

    def _open_with_room(self) -> int:
        """Open the first file. If it has twice its size, it is turned first: its size was lowered, or who turned it
        stood still. If that is not possible, nothing is written, so nobody fills the disk meanwhile.
        """
        fault: OSError | None = None
        for _ in range(2):
            handle = self._open_own()
            if os.fstat(handle).st_size <= 2 * self._most:
                return handle
            try:
                fault = None if _WINDOWS else self._turn_locked(handle)
            finally:
                os.close(handle)
            if _WINDOWS:
                fault = self._turn()
        why = f": {fault.strerror}" if fault is not None else ""
        raise OSError(errno.EFBIG, f"it is too large, and cannot be renamed{why}")

    def _open_own(self) -> int:
        """Open the first file, or make it. Raises OSError if something else has its name."""
        handle = self._open()
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(handle)
            raise OSError(errno.EEXIST, "something else has this name")
        if not _WINDOWS and found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) and found.st_uid == os.geteuid():
            tighten(handle, os.path.dirname(self.path))
        return handle

    def _open(self) -> int:
        try:
            return os.open(self.path, _FLAGS)
        except FileNotFoundError:
            handle = os.open(self.path, _FLAGS | os.O_CREAT, 0o600)
            share_with_group(self.path)
            give_to_owner_of_folder(self.path)
            return handle

    def _turn_locked(self, handle: int) -> OSError | None:
        """Make this file the second one, unless another process just did. Returns why that is not possible.

        The lock is on the file itself, and who gets it looks whether the file still has its name. So of several
        processes that find the file full, one renames it, and none renames the new one.
        """
        import fcntl

        try:  # another process may hold the lock, or the file system may have none: the next one turns it
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                if os.path.samestat(os.stat(self.path), os.fstat(handle)):
                    os.replace(self.path, self.predecessor)
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)  # a child that was forked meanwhile would keep it
        except OSError as fault:
            return fault
        return None

    def _turn(self) -> OSError | None:
        """Make the first file the second one, if it is still full. Returns why that is not possible."""
        try:
            if os.stat(self.path).st_size > self._most:
                os.replace(self.path, self.predecessor)
        except OSError as fault:
            return fault
        return None


def _made(line: Callable[[], bytes]) -> bytes:
    """Make a line. One that cannot be made is left out: the numbers of the others tell that it is missing."""
    try:
        return line()
    except Exception as fault:
        _log.debug("a line of the journal cannot be made: %s", type(fault).__name__)
        return b""


def _ends_line(handle: int) -> bool:
    os.lseek(handle, -1, os.SEEK_END)
    return os.read(handle, 1) == b"\n"
