"""The store in a file: $CODEX_HOME/auth.json, shared with codex.

Only the process that holds the lock writes (home_lock.py, file_writer.py). Every process may read at any time
(file_reader.py). codex does not take the lock. If auth.json is a symbolic link, its target is locked and rewritten, and
the link stays.

What happens under the lock runs in threads (off_loop.py). Reads without the lock run in the event loop's own thread:
they are brief, and a thread would cost more.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType

from authstate.adapters.logs.loggers import library_logger
from authstate.adapters.stores.auth_json_format import decode
from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.file_reader import AuthJsonReader
from authstate.adapters.stores.file_writer import HeldAuthJson, is_temporary
from authstate.adapters.stores.home_lock import HeldLock, HomeLock
from authstate.adapters.stores.in_place import InPlaceWriter
from authstate.adapters.stores.last_change import last_change
from authstate.adapters.stores.off_loop import deliver_cancellation
from authstate.adapters.stores.permissions import Finding
from authstate.adapters.stores.read_ahead import Found, ReadAhead
from authstate.adapters.stores.refresh_claims_file import RefreshClaimsFile
from authstate.engine.clock import SystemClock
from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import strip_tracebacks_of_methods
from authstate.engine.ports import Clock, HeldStore, LastChange

_log = library_logger("stores")


@strip_tracebacks_of_methods
class AuthJsonStore:
    """A `CredentialStore` in `home`/auth.json.

    Args:
        home: the folder. If it is missing, nothing is stored. The first lock creates it, for this user only.
        clock: times the waits.
        lock_timeout: seconds to wait for the lock before `StoreBusy`.
        disk: reads and writes the files.
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
        clock = clock or SystemClock()
        self._disk = disk or Disk()
        self.home_lock: HomeLock = HomeLock(self._home, self._disk, clock, lock_timeout)
        """The lock for every change. A store that keeps the login elsewhere takes it as well."""
        self.claims: RefreshClaimsFile = RefreshClaimsFile(self._path, self._disk)
        """The refresh claims of the home. A store that keeps the login elsewhere uses them as well."""
        self._reader = AuthJsonReader(self._path, self.home_lock, self._disk, clock)
        self._read_ahead = ReadAhead(self._reader, self.claims)
        self._has_loaded = False
        self._findings_were_read = False

    def describe(self) -> str:
        """Return the path of the file."""
        return self._path

    async def load(self) -> Credentials | None:
        """Read what is stored, None if there is no file. An incomplete file is read again for up to 0.1 s.

        The first call also removes the temporary files of killed processes, because they may hold tokens. In the home
        of another user, nothing is changed.

        Raises StoreUnavailable or StoreUnreadable. Safe to cancel.
        """
        self._warn_of_findings()
        if not self._has_loaded:
            self._has_loaded = True
            if self._has_leftovers():
                await self._disk.off_loop(self._recover_if_free)
        data = await self._reader.read_settled()
        if InPlaceWriter(self._disk.resolve(self._path), self._disk).has_pending_write and (
            await self._disk.off_loop(self._recover_if_free)
        ):
            data = self._reader.read()
        return None if data is None else decode(data, self._path).credentials

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        """See `CredentialStore`."""
        if self._read_ahead.claims is not None:
            return self._read_ahead.claims.get(fingerprint)
        return await self._disk.off_loop(lambda: self.claims.find(fingerprint))

    def locked(self) -> AbstractAsyncContextManager[HeldStore]:
        """Take the lock. It excludes other processes, and other stores of this process.

        Raises StoreBusy after `lock_timeout`, and StoreUnavailable if no lock is possible. Cancellation while waiting
        leaves no lock behind. A cancellation that comes during a write is raised when the context ends, or before.
        """
        return _Locked(self._take, self._disk)

    async def _take(self) -> HeldAuthJson:
        held, found = await self.home_lock.acquire(self._begin)
        self._read_ahead.keep(found)
        return held

    def _begin(self, lock: HeldLock) -> tuple[HeldAuthJson, Found]:
        """Do what comes first under the lock."""
        self._warn_of_findings()
        held = self.hold(lock)
        held.recover()
        return held, self._read_ahead.read()

    def hold(self, lock: HeldLock) -> HeldAuthJson:
        """Return the file for a lock that is already held. The caller discards it and releases the lock."""
        return HeldAuthJson(self._reader, self.claims, self._read_ahead, lock, self._disk)

    def _warn_of_findings(self) -> None:
        """Log what other users can do to the home: once, and not if somebody asked for it."""
        if not self._findings_were_read:
            for finding in self.findings():
                _log.warning("%s", finding.message)

    def _has_leftovers(self) -> bool:
        """Return whether there are temporary files: of dead processes, or of one that holds the lock."""
        folder, name = os.path.split(self._disk.resolve(self._path))
        try:
            return any(is_temporary(entry, name) for entry in self._disk.list_folder(folder))
        except OSError:
            return False

    def _recover_if_free(self) -> bool:
        """Finish the writes of dead processes and remove their files, if the lock is free and the home is this user's.

        Returns:
            Whether the lock was free and the home is this user's.
        """
        if self._disk.is_of_another_user(os.path.dirname(self._disk.resolve(self._path))):
            return False
        lock = self.home_lock.try_acquire()
        if lock is None:
            return False
        self.hold(lock).recover()
        lock.release()
        return True

    def findings(self) -> list[Finding]:
        """Return what other users can do to the home. See `Inspected`. `load` does not log them afterwards."""
        self._findings_were_read = True
        return self._disk.findings(self._path)

    def revision(self) -> object:
        """See `HasRevision`."""
        return self.home_lock.revision()

    async def last_change(self) -> LastChange | None:
        """Return who changed the file last, and when. See `ReportsLastChange`."""
        stored = await self.load()
        target = self._disk.resolve(self._path)
        changed_at: float | None = None
        with suppress(OSError):
            changed_at = self._disk.changed_at(target if stored is not None else os.path.dirname(target))
        return last_change(stored, changed_at, self.home_lock.recent_saves(), self._path, self._home)


class _Locked(AbstractAsyncContextManager[HeldStore]):
    """The lock of a store, while it is entered."""

    def __init__(self, take: Callable[[], Awaitable[HeldAuthJson]], disk: Disk) -> None:
        self._take = take
        self._disk = disk
        self._held: HeldAuthJson | None = None

    async def __aenter__(self) -> HeldStore:
        self._held = await self._take()
        return self._held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        if kind is GeneratorExit:  # the event loop is gone: nothing can be awaited
            held.end()
        else:
            await self._disk.off_loop(held.end)
            await deliver_cancellation()
