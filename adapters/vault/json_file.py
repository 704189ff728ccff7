"""A small JSON file without secrets that several processes read and change: the accounts and the leases of a vault.

Readers take no lock, because a change replaces the file atomically. Writers take a lock beside it. What was read is
kept until the file changes, so a look costs the status of one file.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

import msgspec

from authstate.adapters.stores.disk import TEMPORARY, Disk, unavailable
from authstate.engine.model.errors import StoreBusy, StoreUnreadable

T = TypeVar("T")

_LARGEST = 16 * 1024 * 1024  # bytes
_LOCK_WITHIN = 10.0  # seconds
_POLL = 0.01  # seconds
_FRESH = 200_000_000  # nanoseconds, longer than a tick of any file system's clock


class JsonFile(Generic[T]):
    """One file.

    Args:
        path: where it is. Its folder is created with the first change, for this user only.
        kind: the type of its content.
        empty: what a missing file means.
        disk: reads and writes it.
    """

    def __init__(self, path: str, kind: type[T], empty: T, disk: Disk | None = None) -> None:
        self.path = path
        self._kind = kind
        self._empty = empty
        self._disk = disk or Disk()
        self._read: tuple[object, T] | None = None  # the revision that was read, and its content

    def revision(self) -> object:
        """Return a value that changes with the file. None if there is no file. Raises nothing."""
        try:
            return self._disk.revision(self.path)
        except OSError:
            return None

    def load(self) -> T:
        """Return the content. Blocks briefly.

        Raises:
            StoreUnavailable: the file cannot be read now.
            StoreUnreadable: it is damaged. Nothing replaces it.
        """
        revision = self.revision()
        if self._read is not None and revision is not None and self._read[0] == revision:
            return self._read[1]
        content = self._load()
        self._read = None if _is_fresh(revision) else (revision, content)
        return content

    def change(self, change: Callable[[T], T], *, within: float | None = None) -> T:
        """Replace the content by `change(content)`, durably, while no other process changes it. Blocks briefly.

        An exception of `change` leaves the file as it is and is raised unchanged.

        Args:
            change: takes the content and returns the new one.
            within: seconds to wait for the lock; by default 10.

        Returns:
            The new content.

        Raises:
            StoreBusy: another process holds the lock for longer than that.
            StoreUnavailable, StoreUnreadable: the file cannot be read or written. It is unchanged.
        """
        try:
            self._disk.make_folder(os.path.dirname(self.path))
            with self._locked(_LOCK_WITHIN if within is None else within):
                before = self._load()
                after = change(before)
                if after != before:
                    self._remove_leftovers()
                    data = msgspec.json.format(msgspec.json.encode(after), indent=2)
                    self._disk.publish(self.path, data, self._disk.temporary_path(self.path))
                return after
        except OSError as error:
            raise unavailable("write", self.path, error) from error
        finally:
            self._read = None

    @contextmanager
    def _locked(self, within: float) -> Iterator[None]:
        """Hold the lock of the writers. The lock of a process that ended is free."""
        lock = self._disk.lock(f"{self.path}.lock")
        deadline = time.monotonic() + within
        while not lock.acquire():
            if time.monotonic() >= deadline:
                raise StoreBusy(
                    f"{self.path} is held by another process for more than {within:g} s: wait for it, then try again"
                )
            time.sleep(_POLL)
        try:
            yield
        finally:
            with suppress(OSError):
                lock.release()

    def _remove_leftovers(self) -> None:
        """Remove the temporary files of processes that ended in the middle of a change. Requires the lock."""
        folder, name = os.path.split(self.path)
        for entry in self._disk.list_folder(folder):
            if entry.startswith(f"{name}.") and entry.endswith(TEMPORARY):
                with suppress(OSError):
                    self._disk.remove(os.path.join(folder, entry))

    def _load(self) -> T:
        try:
            data = self._disk.read(self.path, _LARGEST)
        except FileNotFoundError:
            return self._empty
        except OSError as error:
            raise unavailable("read", self.path, error) from error
        try:
            return msgspec.json.decode(data, type=self._kind)
        except (ValueError, RecursionError) as fault:
            raise StoreUnreadable(
                f"{self.path} cannot be read ({type(fault).__name__}): repair it, or move it away. The logins beside "
                "it are not affected"
            ) from None


def _is_fresh(revision: object) -> bool:
    """Whether a file was changed so lately that another change may leave the revision as it is.

    The clock of a file system ticks every few milliseconds, and the file that is replaced may give its number to the
    one after the next. So two changes within one tick can look like none.
    """
    return isinstance(revision, tuple) and abs(time.time_ns() - revision[-1]) < _FRESH
