"""The store in a file: $CODEX_HOME/auth.json, shared with codex, with one writer at a time.

How it holds together. The lock is a file beside auth.json (`auth.json.authstate.lock`) that the operating system locks
for a process and unlocks when that process dies. Only who holds the lock writes: a temporary file in the same folder is
filled and synced, then renamed over auth.json, so a reader sees the old or the new, whole. `prepare` makes that file,
with its space, before a token is spent. codex does not take the lock, and some versions write in place: so half a file
is read again for a moment before it counts as corrupt.

Where auth.json is a symbolic link, the file that it leads to is locked and rewritten, and the link stays. The lock
itself is in lock.py.

Where a rename cannot replace the file, or would take it away from its owner, it is written in place (in_place.py).
`prepare` finds out which of the two it will be, and that it can succeed.

The disk is used in the event loop's own thread: see disk.py for why.
"""

import errno
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from authstate.adapters.stores.claims_file import ClaimsFile
from authstate.adapters.stores.codec import LARGEST, decode, encode, is_json_object, looks_like_login
from authstate.adapters.stores.disk import TEMPORARY, Disk, unavailable
from authstate.adapters.stores.in_place import InPlaceWriter
from authstate.adapters.stores.lock import HeldLock, HomeLock
from authstate.adapters.stores.permissions import Finding
from authstate.adapters.stores.provenance import digest_of, last_change
from authstate.engine.clock import SystemClock
from authstate.engine.machines.claim import Claim
from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import StoreUnavailable, strip_tracebacks_of_methods
from authstate.engine.ports import Clock, HeldStore, LastChange

_log = logging.getLogger("authstate.stores")
_REREADS = 5
_REREAD_WAIT = 0.02  # seconds between two looks at a file that is not whole
_RESERVE = 16 * 1024  # bytes
_FIXED = frozenset({errno.EBUSY, errno.EXDEV})
"""A file of which this is told can be written in place only."""
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""This may be told of the folder, too: then the file in it may still be written in place."""


@strip_tracebacks_of_methods
class AuthJsonStore:
    """A `CredentialStore` in `home`/auth.json.

    Args:
        home: the folder. It may be missing: then nothing is stored, and the first lock makes it, for this user only.
        clock: for the waits.
        lock_timeout: seconds to wait for the lock before `StoreBusy`.
        disk: what does the reading and writing.
    """

    def __init__(
        self,
        home: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        lock_timeout: float = 60.0,
        disk: Disk | None = None,
    ) -> None:
        self._home = os.path.abspath(home)
        self._path = os.path.join(self._home, "auth.json")
        self._clock = clock or SystemClock()
        self._disk = disk or Disk()
        self.home_lock = HomeLock(self._home, self._disk, self._clock, lock_timeout)
        """Taken for every change; a store that keeps the login elsewhere takes it, too."""
        self.claims = ClaimsFile(self._path, self._disk)
        """What is known of refresh tokens that were sent; of a store that keeps the login elsewhere, too."""
        self._has_looked = False
        self._findings_were_read = False

    def describe(self) -> str:
        """The path of the file."""
        return self._path

    async def load(self) -> Credentials | None:
        """What is stored, None when there is no file. Half a file is read again for up to 0.1 s.

        The first look also removes what a process that was killed left here: it may hold a token. In the home of
        another user, a look changes nothing.

        Raises StoreUnavailable or StoreUnreadable. Safe to cancel.
        """
        if not self._has_looked:
            self._has_looked = True
            for finding in () if self._findings_were_read else self.findings():
                _log.warning("%s", finding.message)
            self._remove_leftovers()
        data = await self._read_settled()
        if InPlaceWriter(self._disk.resolve(self._path), self._disk).has_pending_write and self._recover_if_free():
            data = self.read()
        return None if data is None else decode(data, self._path).credentials

    async def claim_on(self, fingerprint: str) -> Claim | None:
        """See `CredentialStore`."""
        return self.claims.find(fingerprint)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        """Take the lock between processes, and between stores of this process.

        Raises StoreBusy after `lock_timeout` and StoreUnavailable where there can be no lock. Cancellation while
        waiting leaves no lock behind.
        """
        lock = await self.home_lock.acquire()
        held = self.hold(lock)
        try:
            held.recover()
            yield held
        finally:
            held.discard()
            lock.release()

    def hold(self, lock: HeldLock) -> "HeldAuthJson":
        """The file under a lock that was taken already; the caller discards it and releases the lock."""
        return HeldAuthJson(self, lock, self._disk)

    def _remove_leftovers(self) -> None:
        """Remove leftovers, if there are any and nobody holds the lock. Who holds it does so, or is using one."""
        folder, name = os.path.split(self._disk.resolve(self._path))
        try:
            found = any(_is_temporary(entry, name) for entry in self._disk.list_folder(folder))
        except OSError:
            return
        if found:
            self._recover_if_free()

    def _recover_if_free(self) -> bool:
        """Finish and remove what processes that died left, if nobody holds the lock and the home is this user's."""
        if self._disk.is_of_another_user(os.path.dirname(self._disk.resolve(self._path))):
            return False
        lock = self.home_lock.try_acquire()
        if lock is None:
            return False
        self.hold(lock).recover()
        lock.release()
        return True

    def findings(self) -> list[Finding]:
        """What other users can do to the home. See `Inspected`. Who asks is told: then the log is not."""
        self._findings_were_read = True
        return self._disk.findings(self._path)

    def revision(self) -> object:
        """See `HasRevision`."""
        return self.home_lock.revision()

    async def last_change(self) -> LastChange | None:
        """Who changed the file last, and when. See `ReportsLastChange`."""
        stored = await self.load()
        target = self._disk.resolve(self._path)
        changed_at: float | None = None
        with suppress(OSError):
            changed_at = self._disk.changed_at(target if stored is not None else os.path.dirname(target))
        return last_change(stored, changed_at, self.home_lock.recent_saves(), self._path, self._home)

    def read(self) -> bytes | None:
        """The file's bytes as they are now, None when there is no file. Raises StoreUnavailable, also where the folder
        is gone for a moment: that is no logout.
        """
        if reason := self._disk.reason_to_refuse(self._path):
            raise StoreUnavailable(reason)
        try:
            return self._disk.read(self._path, LARGEST + 1)
        except FileNotFoundError as error:
            if self._is_home_missing():
                raise unavailable("read", self._path, error) from error
            return None
        except OSError as error:
            raise unavailable("read", self._path, error) from error

    def _is_home_missing(self) -> bool:
        try:
            return self.home_lock.is_home_missing()
        except OSError as error:
            raise unavailable("read", self._path, error) from error

    async def _read_settled(self) -> bytes | None:
        """The file's bytes, read again for a short while if they are not whole: codex may be writing them."""
        data = self.read()
        for _ in range(_REREADS):
            if data is None or is_json_object(data):
                break
            await self._clock.sleep(_REREAD_WAIT)
            data = self.read()
        return data


@strip_tracebacks_of_methods
class HeldAuthJson:
    """The file while its lock is held."""

    def __init__(self, store: AuthJsonStore, lock: HeldLock, disk: Disk) -> None:
        self._store = store
        self._lock = lock
        self._target = lock.target
        self._disk = disk
        self._in_place = InPlaceWriter(self._target, disk)
        self._must_be_in_place = False
        self._temporary: str | None = None  # the temporary file, reserved and not yet renamed
        self._before: bytes | None = None  # what was stored when it was reserved

    async def load(self) -> Credentials | None:
        return await self._store.load()

    async def prepare(self) -> None:
        """Find out how the file can be written, and reserve the space: in a temporary file for a rename, or in the file
        itself. The lock's release gives back what no save needed.
        """
        if self._temporary is None and not self._must_be_in_place:
            self._before = await self._readable()
            self._ensure_login(self._before)
            self._reserve()

    async def _readable(self) -> bytes | None:
        """What is stored; None where this user may not read it, but may replace it."""
        try:
            return await self._store._read_settled()
        except StoreUnavailable as fault:
            if isinstance(fault.__cause__, PermissionError) and self._disk.is_of_another_user(self._target):
                return None
            raise

    def _is_not_replaceable(self, error: OSError) -> bool:
        """Whether an error of a rename, or of one that is prepared, means that only writing in place is possible."""
        return error.errno in _FIXED or (error.errno in _DENIED and self._disk.is_not_replaceable(self._target))

    async def save(self, credentials: Credentials) -> None:
        """Replace the file. After `prepare` there is no wait in here, so cancellation cannot cut it in two.

        Raises StoreUnavailable; then the old is still there, apart from one case that the message names: the new is in
        its place, but the disk did not confirm that a power cut keeps it.
        """
        await self.prepare()
        now = None
        with suppress(StoreUnavailable):  # it can be replaced all the same, and a token may be spent by now
            now = self._store.read()
        data = encode(credentials, now if now is not None and is_json_object(now) else self._before)
        self._lock.record_save(digest_of(credentials))
        try:
            self._write(data)
        except OSError as error:
            raise unavailable("write", self._target, error) from error

    def _write(self, data: bytes) -> None:
        if self._must_be_in_place:
            self._in_place.write(data)
            return
        try:
            self._replace(self._temporary, data)
        except OSError as error:
            if not self._is_not_replaceable(error):
                raise
            try:  # it was mounted, say, while the issuer was asked: the new tokens exist nowhere else
                self._in_place.write(data)
            except OSError:
                raise error from None
            return
        self._temporary = None
        self._sync_folder()

    async def delete(self) -> None:
        self._ensure_removable()
        self._lock.record_save(digest_of(None))
        self._remove()

    async def record(self, claim: Claim) -> None:
        """See `HeldStore`. There is no wait in here."""
        self._store.claims.record(claim)

    def remove_copy(self) -> None:
        """Remove the file, and leave no mark of it, where it may hold a copy of a login that is kept elsewhere.

        Raises StoreUnavailable.
        """
        try:
            self._ensure_removable()
        except StoreUnavailable:
            return  # a device, say, or what a link leads to: there is no login in it
        self._remove()

    def _ensure_removable(self) -> None:
        """Check that what is there may be a login. Raises StoreUnavailable."""
        try:
            self._ensure_login(self._disk.read(self._target, LARGEST + 1))
        except OSError as error:  # what is only unreadable is removed
            if error.errno == errno.ENXIO:  # a device or a pipe
                raise unavailable("remove", self._target, error) from error

    def _remove(self) -> None:
        self._in_place.drop_pending()
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
        """Check that a symbolic link leads to a login, or to a part of one, and to nobody's notes.

        Raises StoreUnavailable.
        """
        folder, name = os.path.split(self._store._path)
        is_link = os.path.join(self._disk.resolve(folder), name) != self._target
        if is_link and data is not None and not looks_like_login(data):
            raise StoreUnavailable(
                f"{self._store._path} is a symbolic link to {self._target}, which is not a login and was left "
                "unchanged: remove the link, then try again"
            )

    def _write_empty_record(self, fault: OSError) -> None:
        """Leave an empty record in a file that cannot be removed. Raises StoreUnavailable."""
        try:
            self._disk.overwrite(self._target, b"{}\n")
            self._disk.sync(self._target)
        except OSError:
            raise unavailable("remove", self._target, fault) from fault

    def discard(self) -> None:
        """Give back what was reserved, if it was not used."""
        self._in_place.discard()
        self._must_be_in_place = False
        if self._temporary is not None:
            with suppress(OSError):
                self._disk.remove(self._temporary)
            self._temporary = None

    def recover(self) -> None:
        """Finish what processes that died began, and remove what they left. For who holds the lock."""
        self._in_place.recover()
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove the temporary files of processes that died: while the lock is held, nobody else has a use for one."""
        folder, name = os.path.split(self._target)
        with suppress(OSError):
            for found in self._disk.list_folder(folder):
                if _is_temporary(found, name):
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
        """A temporary file that can take the place of the file. Raises OSError."""
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
            if isinstance(error, FileNotFoundError) or (error.errno in _DENIED and fault.errno not in _FIXED):
                raise unavailable("write beside", self._target, fault) from error
            raise unavailable("write", self._target, error) from error
        self._must_be_in_place = True

    def _replace(self, temporary: str | None, data: bytes) -> None:
        """Put the new content in place; afterwards there is no temporary file any more. Raises OSError."""
        try:
            self._fill_and_rename(temporary or self._make_temporary(_RESERVE), data)
        except FileNotFoundError:  # somebody cleaned up: one more try with a new one, for a token may be spent by now
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


def _is_temporary(found: str, name: str) -> bool:
    """Whether `found` is named as `Disk.temporary_path` names: NAME.PID.RANDOM.tmp."""
    if not (found.startswith(name + ".") and found.endswith(TEMPORARY)):
        return False
    pid, _, random = found[len(name) + 1 : -len(TEMPORARY)].partition(".")
    return pid.isdecimal() and random.isalnum()
