"""Writing auth.json in place, where it cannot be replaced by a rename: it is mounted by itself, its folder cannot be
written, or a rename would take it away from its owner.

A crash in the middle of such a write leaves half a file. So what is about to be written is kept first, whole and
synced, in a file of its own (`auth.json.authstate.pending`, mode 0600), with what it replaces. Whoever takes the lock
next finds it, and finishes the write; unless a program without the lock has stored something else meanwhile. A file in
the middle of the write begins with `!`, so no reader takes a mixture of the old and the new for a login.

That file is beside auth.json, or in a folder of the user (companion_files.py). Where none can be written, the write
has no such protection.
"""

import logging
import os
from contextlib import suppress
from itertools import zip_longest

import msgspec

from authstate.adapters.stores.codec import LARGEST, is_json_object
from authstate.adapters.stores.companion_files import companion_paths
from authstate.adapters.stores.disk import Disk

_TAIL = ".authstate.pending"
_SPACE = ord(" ")
_LARGEST_PENDING = 3 * LARGEST  # bytes: two files in base64, which takes a third more
_log = logging.getLogger("authstate.stores")


class PendingWrite(msgspec.Struct, frozen=True):
    """A write in place that has begun."""

    before: bytes
    """What is replaced."""
    content: bytes
    """What is written. Both hold tokens."""

    def is_incomplete(self, current: bytes) -> bool:
        """Whether a file is as a crash may have left it: the old, or a mixture of the old and the new."""
        if not is_json_object(current):
            return True
        before, content = self.before.rstrip(), self.content.rstrip()
        both = zip_longest(current.rstrip(), before, content, fillvalue=_SPACE)
        return current.rstrip() != content and all(found in (old, new, _SPACE) for found, old, new in both)


class InPlaceWriter:
    """The way to write one file in place.

    Args:
        target: the file, with no symbolic link left in its path.
        disk: what does the reading and writing.
    """

    def __init__(self, target: str, disk: Disk) -> None:
        self._target = target
        self._disk = disk
        self._reserved: int | None = None  # the size of the file before space was reserved at its end

    def reserve(self, size: int) -> None:
        """Make sure that the file can be written, and reserve space at its end. Raises OSError."""
        if self._reserved is None:
            self._reserved = self._disk.reserve_space(self._target, size)

    def discard(self) -> None:
        """Give the space back, if no write used it."""
        if self._reserved is not None:
            with suppress(OSError):
                self._disk.release_space(self._target, self._reserved)
            self._reserved = None

    def write(self, data: bytes) -> None:
        """Replace the content: when this returns, a crash keeps the new. Raises OSError."""
        before = b""
        with suppress(OSError):
            before = self._disk.read(self._target, LARGEST)
        kept = self._keep(PendingWrite(before, data))
        self._overwrite(data)
        if kept is not None:
            self._remove(kept)

    @property
    def has_pending_write(self) -> bool:
        """Whether a write has begun, and has not ended. Raises nothing."""
        return any(map(self._disk.exists, pending_paths(self._target)))

    def recover(self) -> None:
        """Finish a write that a crash ended. For who holds the lock. Raises nothing."""
        for place in filter(self._disk.exists, pending_paths(self._target)):
            try:
                pending = msgspec.json.decode(self._disk.read(place, _LARGEST_PENDING), type=PendingWrite)
            except (OSError, ValueError):
                self._remove(place)
                continue
            try:
                self._finish(place, pending)
            except OSError as error:
                _log.warning("%s was written in part, and cannot be finished now: %s", self._target, error.strerror)

    def drop_pending(self) -> None:
        """Remove what was kept of a write, for a sign-out."""
        for place in filter(self._disk.exists, pending_paths(self._target)):
            self._remove(place)

    def _finish(self, place: str, pending: PendingWrite) -> None:
        current = self._disk.read(self._target, LARGEST)
        if pending.is_incomplete(current):
            self._overwrite(pending.content)
            _log.warning("%s: a write that was cut short was finished", self._target)
        self._remove(place)

    def _overwrite(self, data: bytes) -> None:
        self._disk.overwrite(self._target, data)
        self._disk.sync(self._target)
        self._reserved = None

    def _keep(self, pending: PendingWrite) -> str | None:
        """Keep a write where any place allows it; None where none does."""
        data = msgspec.json.encode(pending)
        for place in pending_paths(self._target):
            try:
                self._disk.make_folder(os.path.dirname(place))
                self._disk.publish(place, data, self._disk.temporary_path(place))
            except OSError:
                continue
            return place
        return None

    def _remove(self, place: str) -> None:
        with suppress(OSError):
            self._disk.remove(place)


def pending_paths(target: str) -> list[str]:
    """Where a pending write of a file is kept: the first place that can be written."""
    return companion_paths(target, _TAIL)
