"""Writes auth.json in place where a rename cannot replace it: the file is a mount of its own, its folder is not
writable, or a rename would change its owner.

A crash during such a write leaves half a file. Therefore the new content and the content that it replaces are stored
first, in a separate file that is synced (`auth.json.authstate.pending`, mode 0600). The next process that takes the
lock finds it and finishes the write, unless a program without the lock has stored something else since. The first byte
of auth.json is `!` during the write, so no reader takes a mixture of the old and the new content for a login.

The pending file is beside auth.json, or in a folder of the user (companion_files.py). If neither is writable, the write
has no such protection.
"""

import os
from contextlib import suppress
from itertools import zip_longest

import msgspec

from authstate.adapters.logs.loggers import library_logger
from authstate.adapters.stores.auth_json_format import LARGEST, is_json_object
from authstate.adapters.stores.companion_files import companion_paths, reachable_companion_paths
from authstate.adapters.stores.disk import Disk

_SUFFIX = ".authstate.pending"
_SPACE = ord(" ")
_LARGEST_PENDING = 3 * LARGEST  # bytes: two files in base64, which is a third longer
_log = library_logger("stores")


class PendingWrite(msgspec.Struct, frozen=True):
    """A write in place that has begun. Both members contain tokens."""

    before: bytes
    """The content that is replaced."""
    content: bytes
    """The new content."""

    def is_incomplete(self, current: bytes) -> bool:
        """Return whether a crash may have left this content: the old one, or a mixture of the old and the new."""
        if not is_json_object(current):
            return True
        before, content = self.before.rstrip(), self.content.rstrip()
        both = zip_longest(current.rstrip(), before, content, fillvalue=_SPACE)
        return current.rstrip() != content and all(found in (old, new, _SPACE) for found, old, new in both)


class InPlaceWriter:
    """Writes one file in place.

    Args:
        target: the file, with all symbolic links resolved.
        disk: reads and writes the files.
    """

    def __init__(self, target: str, disk: Disk) -> None:
        self._target = target
        self._disk = disk
        self._reserved: int | None = None  # the size of the file before space was reserved at its end

    def reserve(self, size: int) -> None:
        """Check that the file is writable, and reserve space at its end. Raises OSError."""
        if self._reserved is None:
            self._reserved = self._disk.reserve_space(self._target, size)

    def discard(self) -> None:
        """Release the space, if no write used it."""
        if self._reserved is not None:
            with suppress(OSError):
                self._disk.release_space(self._target, self._reserved)
            self._reserved = None

    def write(self, data: bytes) -> None:
        """Replace the content. Once this returns, a crash does not lose the new content. Raises OSError."""
        before = b""
        with suppress(OSError):
            before = self._disk.read(self._target, LARGEST)
        kept = self._store_pending(PendingWrite(before, data))
        self._overwrite(data)
        if kept is not None:
            self._remove(kept)

    @property
    def has_pending_write(self) -> bool:
        """Whether a write has begun and not ended. Raises nothing."""
        return any(map(self._disk.exists, reachable_companion_paths(self._target, _SUFFIX)))

    def recover(self) -> None:
        """Finish a write that a crash interrupted. Requires the lock. Raises nothing."""
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
        """Remove the pending write, because the login is removed."""
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

    def _store_pending(self, pending: PendingWrite) -> str | None:
        """Store the pending write in the first place that is writable. Return its path, None if there is none."""
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
    """Return the paths where the pending write of a file may be, the preferred one first."""
    return companion_paths(target, _SUFFIX)
