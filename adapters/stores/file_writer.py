"""auth.json while its lock is held: how to save and delete it, and how to recover from a crash.

A save fills a temporary file in the same folder, syncs it and renames it over auth.json, so a reader sees the complete
old or new content. `prepare` creates that file and reserves its space before a token is spent. If a rename cannot
replace the file, or would change its owner, the file is written in place (in_place.py). `prepare` finds out which of
the two is needed, and that it can succeed.

Each method does its work in as few changes of thread as it can (off_loop.py): a refresh pays for each of them.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress

from authstate.adapters.stores.auth_json_format import LARGEST, decode, encode, is_json_object, looks_like_login
from authstate.adapters.stores.disk import TEMPORARY, Disk, unavailable
from authstate.adapters.stores.file_reader import AuthJsonReader
from authstate.adapters.stores.home_lock import HeldLock
from authstate.adapters.stores.in_place import InPlaceWriter
from authstate.adapters.stores.last_change import digest_of
from authstate.adapters.stores.read_ahead import ReadAhead
from authstate.adapters.stores.refresh_claims_file import RefreshClaimsFile
from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import StoreUnavailable, strip_tracebacks_of_methods

_RESERVE = 16 * 1024  # bytes
_ONLY_IN_PLACE = frozenset({errno.EBUSY, errno.EXDEV})
"""Errors of a rename that mean: the file can only be written in place."""
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors that may concern the folder only: the file in it may still be writable in place."""


@strip_tracebacks_of_methods
class HeldAuthJson:
    """The file while its lock is held.

    Args:
        reader: reads the file.
        claims: the refresh claims of the home.
        read_ahead: what was read in the step that took the lock.
        lock: the lock that is held.
        disk: writes the file.
    """

    def __init__(
        self, reader: AuthJsonReader, claims: RefreshClaimsFile, read_ahead: ReadAhead, lock: HeldLock, disk: Disk
    ) -> None:
        self._reader = reader
        self._claims = claims
        self._read_ahead = read_ahead
        self._lock = lock
        self._target = lock.target
        self._disk = disk
        self._in_place = InPlaceWriter(self._target, disk)
        self._must_write_in_place = False
        self._temporary: str | None = None  # the temporary file, reserved and not yet renamed
        self._before: bytes | None = None  # what was stored when it was reserved
        self._loaded: bytes | None = None  # what the last `load` read, until `prepare` has used it

    async def load(self) -> Credentials | None:
        """Read what is stored. The next `prepare` uses what this read, if it is complete, instead of reading again."""
        self._loaded = None
        self._loaded = data = self._read_ahead.data or await self._reader.read_settled_off_loop()
        return None if data is None else decode(data, self._reader.path).credentials

    async def prepare(self) -> None:
        """Find out how the file can be written, and reserve the space: in a temporary file for a rename, or in the file
        itself.

        Releasing the lock frees the space that no save used.
        """
        await self._prepare_and(lambda: None)

    async def prepare_and_record(self, claim: RefreshClaim) -> None:
        """See `CombinesWrites`."""
        await self._prepare_and(lambda: self._claims.record(claim))

    async def _prepare_and(self, then: Callable[[], None]) -> None:
        """Do `prepare`, then `then`, in one step."""
        if not self._is_prepared:
            self._before = self._take_loaded() or await self._read_if_permitted()

        def steps() -> None:
            if not self._is_prepared:
                self._ensure_login(self._before)
                self._reserve()
            then()

        await self._change(steps)

    @property
    def _is_prepared(self) -> bool:
        return self._temporary is not None or self._must_write_in_place

    async def _change(self, steps: Callable[[], None]) -> None:
        """Run steps that write. What was read before them is forgotten."""
        self._read_ahead.forget()
        await self._disk.off_loop(steps)

    def _take_loaded(self) -> bytes | None:
        """Return what the last `load` read, if it is complete. Only once: later, another program may have written."""
        data, self._loaded = self._loaded, None
        return data if data is not None and is_json_object(data) else None

    async def _read_if_permitted(self) -> bytes | None:
        """Read what is stored. None if this user may not read it, but may replace it."""
        try:
            return await self._reader.read_settled_off_loop()
        except StoreUnavailable as fault:
            if isinstance(fault.__cause__, PermissionError) and await self._disk.off_loop(self._is_of_another_user):
                return None
            raise

    def _is_of_another_user(self) -> bool:
        return self._disk.is_of_another_user(self._target)

    def _is_not_replaceable(self, error: OSError) -> bool:
        """Return whether an error of a rename, or of its preparation, means that only writing in place is possible."""
        return error.errno in _ONLY_IN_PLACE or (error.errno in _DENIED and self._disk.is_not_replaceable(self._target))

    async def save(self, credentials: Credentials) -> None:
        """Replace the file. A cancellation waits for the end, and is delivered at the caller's next await.

        Raises StoreUnavailable: the old content is still there, except in one case that the message names. There, the
        new content is in place, but the disk did not confirm that it survives a power cut.
        """
        await self._prepare_and(lambda: self._save(credentials))

    async def save_and_record(self, credentials: Credentials, claim: RefreshClaim) -> None:
        """See `CombinesWrites`."""

        def steps() -> None:
            self._save(credentials)
            with suppress(StoreUnavailable):
                self._claims.record(claim)

        await self._prepare_and(steps)

    def _save(self, credentials: Credentials) -> None:
        now = None
        with suppress(StoreUnavailable):  # the file can still be replaced, and a token may already be spent
            now = self._reader.read()
        data = encode(credentials, now if now is not None and is_json_object(now) else self._before)
        self._lock.record_save(digest_of(credentials))
        try:
            self._write(data)
        except OSError as error:
            raise unavailable("write", self._target, error) from error

    def _write(self, data: bytes) -> None:
        if self._must_write_in_place:
            self._in_place.write(data)
            return
        try:
            self._replace(self._temporary, data)
        except OSError as error:
            if not self._is_not_replaceable(error):
                raise
            try:  # for example, it was mounted during the refresh: the new tokens exist nowhere else
                self._in_place.write(data)
            except OSError:
                raise error from None
            return
        self._temporary = None
        self._sync_folder()

    async def delete(self) -> None:
        """Remove the file. A cancellation waits for the end, and is delivered at the caller's next await."""
        await self._change(self._delete)

    def _delete(self) -> None:
        self._ensure_removable()
        self._lock.record_save(digest_of(None))
        self._remove()

    async def record(self, claim: RefreshClaim) -> None:
        """See `HeldStore`. A cancellation waits for the end, and is delivered at the caller's next await."""
        await self._change(lambda: self._claims.record(claim))

    async def remove_copy(self) -> None:
        """Remove a file that may hold a copy of a login kept elsewhere, without recording a save.

        Raises StoreUnavailable. A cancellation waits for the end, and is delivered at the caller's next await.
        """
        await self._change(self._remove_copy)

    def _remove_copy(self) -> None:
        try:
            self._ensure_removable()
        except StoreUnavailable:
            return  # for example a device, or the target of a link: it holds no login
        self._remove()

    def _ensure_removable(self) -> None:
        """Check that the file may be a login. Raises StoreUnavailable."""
        try:
            self._ensure_login(self._disk.read(self._target, LARGEST + 1))
        except OSError as error:  # an unreadable file may be removed
            if error.errno == errno.ENXIO:  # a device or a pipe
                raise unavailable("remove", self._target, error) from error

    def _remove(self) -> None:
        self._in_place.drop_pending()
        self._before = self._loaded = None  # a later save must not bring any of it back
        try:
            self._disk.remove(self._target)
        except FileNotFoundError:
            return
        except OSError as error:
            if not self._is_not_replaceable(error):
                raise unavailable("remove", self._target, error) from error
            self._write_empty_record(error)
            return
        self._sync_folder()

    def _ensure_login(self, data: bytes | None) -> None:
        """Check that a symbolic link leads to a login or a part of one, not to an unrelated file.

        Raises StoreUnavailable.
        """
        folder, name = os.path.split(self._reader.path)
        is_link = os.path.join(self._disk.resolve(folder), name) != self._target
        if is_link and data is not None and not looks_like_login(data):
            raise StoreUnavailable(
                f"{self._reader.path} is a symbolic link to {self._target}, which is not a login and was left "
                "unchanged: remove the link, then try again"
            )

    def _write_empty_record(self, fault: OSError) -> None:
        """Write an empty record to a file that cannot be removed. Raises StoreUnavailable."""
        try:
            self._disk.overwrite(self._target, b"{}\n")
            self._disk.sync(self._target)
        except OSError:
            raise unavailable("remove", self._target, fault) from fault

    def end(self) -> None:
        """Release the reserved space that was not used, and the lock."""
        self.discard()
        self._lock.release()

    def discard(self) -> None:
        """Release the reserved space that was not used."""
        self._in_place.discard()
        self._must_write_in_place = False
        if self._temporary is not None:
            with suppress(OSError):
                self._disk.remove(self._temporary)
            self._temporary = None

    def recover(self) -> None:
        """Finish the writes of dead processes, and remove their files. Requires the lock."""
        self._in_place.recover()
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove the temporary files of dead processes. While the lock is held, no other process needs one."""
        folder, name = os.path.split(self._target)
        with suppress(OSError):
            for found in self._disk.list_folder(folder):
                if is_temporary(found, name):
                    with suppress(OSError):
                        self._disk.remove(os.path.join(folder, found))

    def _reserve(self) -> None:
        size = _RESERVE + 2 * len(self._before or b"")
        try:
            self._make_temporary(size)
        except OSError as error:
            self.discard()
            if not self._is_not_replaceable(error):
                raise unavailable("write beside", self._target, error) from error
            self._reserve_in_place(size, error)

    def _make_temporary(self, size: int) -> str:
        """Create a temporary file that can replace the target. Raises OSError."""
        self._temporary = temporary = self._disk.temporary_path(self._target)
        self._disk.create(temporary)
        self._disk.check_replaceable(self._target)
        keeps_owner = self._disk.copy_ownership(temporary, self._target)
        if not keeps_owner and self._lock.may_write_in_place:
            raise OSError(errno.EBUSY, "It would no longer belong to its owner", self._target)
        self._disk.write(temporary, b" " * size)
        self._disk.sync(temporary)
        return temporary

    def _reserve_in_place(self, size: int, fault: OSError) -> None:
        try:
            self._in_place.reserve(size)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or (error.errno in _DENIED and fault.errno not in _ONLY_IN_PLACE):
                raise unavailable("write beside", self._target, fault) from error
            raise unavailable("write", self._target, error) from error
        self._must_write_in_place = True

    def _replace(self, temporary: str | None, data: bytes) -> None:
        """Replace the content through a temporary file, which is gone afterwards. Raises OSError."""
        try:
            self._fill_and_rename(temporary or self._make_temporary(_RESERVE), data)
        except FileNotFoundError:  # somebody deleted it: try once more, because a token may already be spent
            self._fill_and_rename(self._make_temporary(_RESERVE), data)

    def _fill_and_rename(self, temporary: str, data: bytes) -> None:
        self._disk.write(temporary, data)
        self._disk.sync(temporary)
        self._lock.extend(temporary)
        self._disk.rename(temporary, self._target)

    def _sync_folder(self) -> None:
        try:
            self._disk.sync_folder(os.path.dirname(self._target))
        except OSError as error:
            raise StoreUnavailable(
                f"{self._target} was changed, but the disk did not confirm it ({error.strerror}): "
                "a power cut may bring the old content back"
            ) from error


def is_temporary(found: str, name: str) -> bool:
    """Return whether `found` is a name that `Disk.temporary_path` gives: NAME.PID.RANDOM.tmp."""
    if not (found.startswith(name + ".") and found.endswith(TEMPORARY)):
        return False
    pid, _, random = found[len(name) + 1 : -len(TEMPORARY)].partition(".")
    return pid.isdecimal() and random.isalnum()
