"""The stores that use the operating system's keyring: `keyring` and `auto` of `cli_auth_credentials_store`.

The entry is the one that codex uses. Its service is `Codex Auth`. Its account is `cli|` and the first 16 hexadecimal
digits of the SHA-256 of the home's path. Its value is the record of auth.json in compact form. A keyring has no lock,
so the lock between processes is that of the file store (home_lock.py). A save removes auth.json, as codex does, so that
only one place holds the login.

A keyring may wait for a person, so its calls run in threads (worker_threads.py), and each wait has a time limit. A
write that exceeds it keeps the lock until the write ends, so it cannot undo what another process stores later.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from authstate.adapters.logs.loggers import library_logger
from authstate.adapters.stores.auth_json_format import decode, encode, is_json_object
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.stores.home_lock import HeldLock, SaveRecord
from authstate.adapters.stores.keyring_entry import KeyringEntry, NoKeyring
from authstate.adapters.stores.last_change import digest_of, last_change
from authstate.adapters.stores.off_loop import deliver_cancellation
from authstate.adapters.stores.permissions import Finding
from authstate.adapters.stores.worker_threads import WorkerThreads
from authstate.engine.clock import SystemClock
from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.model.errors import StoreUnavailable, strip_tracebacks_of_methods
from authstate.engine.ports import Clock, HeldStore, LastChange

T = TypeVar("T")

SERVICE = "Codex Auth"
_PROBE_MARGIN = 4096  # characters: how much longer than the stored record the next one may be
_log = library_logger("stores")


def account_of_home(home: str | os.PathLike[str]) -> str:
    """Return the account of a home's entry, as codex computes it."""
    return "cli|" + hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:16]


@strip_tracebacks_of_methods
class KeyringStore:
    """A `CredentialStore` in the operating system's keyring.

    Args:
        home: the folder that the login belongs to. Its lock is used, and the first lock creates it.
        clock: times the waits.
        lock_timeout: seconds to wait for the lock before `StoreBusy`.
        call_timeout: seconds to wait for the keyring, which may ask a person for its password.
        entry: reads and writes the keyring.
    """

    def __init__(
        self,
        home: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        lock_timeout: float = 60.0,
        call_timeout: float = 30.0,
        entry: KeyringEntry | None = None,
    ) -> None:
        self.home: str = os.path.abspath(home)
        self.entry: KeyringEntry = entry or KeyringEntry(SERVICE, account_of_home(home))
        clock = clock or SystemClock()
        self._calls = WorkerThreads(clock, call_timeout)
        self.file: AuthJsonStore = AuthJsonStore(home, clock=clock, lock_timeout=lock_timeout)
        self._lock = self.file.home_lock

    def describe(self) -> str:
        """Return the service and the account of the entry."""
        return self.entry.place

    async def load(self) -> Credentials | None:
        """Read what is stored. Raises StoreUnavailable or StoreUnreadable. Safe to cancel."""
        text = await self.read()
        return None if text is None else decode(text.encode(), self.entry.place).credentials

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        """See `CredentialStore`. The claims are kept in the home."""
        return await self.file.claim_on(fingerprint)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        """Take the lock of the home.

        Raises StoreBusy after `lock_timeout`, and StoreUnavailable if no lock is possible. Cancellation while waiting
        leaves no lock behind.
        """
        async with self.hold() as held:
            yield held

    @asynccontextmanager
    async def hold(self) -> AsyncIterator["_HeldKeyring"]:
        """Take the lock, like `locked`. For `AutoStore`, which also needs the file."""
        held = await self._lock.acquire(self._begin)
        try:
            yield held
        finally:
            held.file.discard()
            self._calls.call_when_done(held.release)
        await deliver_cancellation()

    def _begin(self, lock: HeldLock) -> "_HeldKeyring":
        """Do what comes first under the lock."""
        held = _HeldKeyring(self, lock)
        held.file.recover()
        return held

    def revision(self) -> object:
        """See `HasRevision`. It covers the saves of authstate. Changes that other programs make are not noticed."""
        return self._lock.revision()

    async def last_change(self) -> LastChange | None:
        """Return who changed the entry last, and when. See `ReportsLastChange`."""
        stored = await self.load()
        changed_at = await self.ask(self.entry.changed_at)
        return last_change(stored, changed_at, self._lock.recent_saves(), self.entry.place, self.home)

    def findings(self) -> list[Finding]:
        """Return what other users can do to the home. See `Inspected`."""
        return self.file.findings()

    def recent_saves(self) -> list[SaveRecord]:
        """Return the last saves under the lock of the home, the oldest first."""
        return self._lock.recent_saves()

    async def read(self) -> str | None:
        """Return the text of the entry, None if there is none. Raises StoreUnavailable."""
        return await self.ask(self.entry.read)

    async def ask(self, work: Callable[[], T]) -> T:
        """Call the keyring for something that may be abandoned: cancellation ends the wait. Raises StoreUnavailable."""
        try:
            return await self._calls.run(work)
        except TimeoutError:
            raise self._no_answer() from None

    async def change(self, work: Callable[[], T]) -> T:
        """Call the keyring for a change: cancellation waits for its end. Raises StoreUnavailable."""
        try:
            return await self._calls.run_uncancellable(work)
        except TimeoutError:
            raise self._no_answer() from None

    def _no_answer(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"the keyring has not answered within {self._calls.timeout:g} s ({self.entry.place}): it may be asking for "
            "its password: answer it, or unlock the keyring, then try again"
        )


@strip_tracebacks_of_methods
class _HeldKeyring:
    """The entry, and the file that it replaces, while the lock is held."""

    def __init__(self, store: KeyringStore, lock: HeldLock) -> None:
        self.file = store.file.hold(lock)
        self._store = store
        self._lock = lock
        self._saved_digest: str | None = None  # of the last change

    async def load(self) -> Credentials | None:
        return await self._store.load()

    async def prepare(self) -> None:
        """Write as much as a save would to a trial entry, and remove it: this detects a locked or small keyring."""
        entry = self._store.entry
        size = len(await self._store.read() or "") + _PROBE_MARGIN
        await self._store.change(lambda: entry.probe_write(size))

    async def save(self, credentials: Credentials) -> None:
        """Replace the entry, then remove auth.json. A cancellation waits for the end of both.

        Raises StoreUnavailable: the old entry is still there, or the keyring has not answered. In the second case the
        write may still happen, and the lock is kept until it has ended.
        """
        before = await self._store.read()
        over = before.encode() if before is not None else None
        text = encode(credentials, over if over is not None and is_json_object(over) else None, indent=-1).decode()
        await self._change(credentials, lambda: self._store.entry.write(text))
        try:
            await self.file.remove_copy()
        except StoreUnavailable as fault:
            _log.warning("the login is in the keyring, but an older copy is left: %s", fault)

    async def delete(self) -> None:
        """Remove the entry and auth.json. Raises StoreUnavailable: then one of them may be left."""
        await self._change(None, self._store.entry.remove)
        await self.file.remove_copy()

    async def record(self, claim: RefreshClaim) -> None:
        """See `HeldStore`. The claim is kept in the home."""
        await self.file.record(claim)

    def release(self) -> None:
        """Release the lock, once the keyring is done.

        First, record the save again, so that the revision changes after the keyring did. The keyring may have asked a
        person in between, and a process that read too early would not read again.
        """
        if self._saved_digest is not None:
            self._lock.record_save(self._saved_digest)
        self._lock.release()

    async def _change(self, credentials: Credentials | None, work: Callable[[], None]) -> None:
        self._saved_digest = digest_of(credentials)
        self._lock.record_save(self._saved_digest)
        await self._store.change(work)


@strip_tracebacks_of_methods
class AutoStore:
    """A `CredentialStore` in the keyring, or in auth.json if the keyring cannot be used.

    If both hold a login, one was stored while the keyring could not be used. The login that was stored last counts, as
    the saves recorded under the lock show. If they do not show it, the login that was refreshed last counts. A keyring
    that held the login and is temporarily gone can be neither read nor emptied: this is not a logout. The arguments are
    those of `KeyringStore`.
    """

    def __init__(self, home: str | os.PathLike[str], **options: Any) -> None:
        self._keyring = KeyringStore(home, **options)
        self._file = self._keyring.file
        self._in_file = False
        self.in_keyring: bool = False
        """Whether the keyring held a login when it was last used."""

    def describe(self) -> str:
        """Return where the login was last found or stored; the keyring if that is not known yet."""
        return (self._file if self._in_file else self._keyring).describe()

    async def load(self) -> Credentials | None:
        """Read what is stored. Safe to cancel.

        Raises StoreUnavailable or StoreUnreadable, but only if the file holds no login either.
        """
        fault: StoreUnavailable | None = None
        entry: Credentials | None = None
        try:
            entry = await self._keyring.load()
        except StoreUnavailable as failed:
            fault = failed
        file = await self._load_file(entry is None)
        if file is None and fault is not None and (self.in_keyring or not isinstance(fault, NoKeyring)):
            raise fault
        self._in_file = isinstance(fault, NoKeyring) or _is_newer(file, entry, self._keyring.recent_saves())
        if fault is None:
            self.in_keyring = entry is not None
        return file if self._in_file else entry

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        """See `CredentialStore`. The claims are kept in the home."""
        return await self._keyring.claim_on(fingerprint)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        """Take the lock of the home. See `KeyringStore.locked`."""
        async with self._keyring.hold() as held:
            yield _HeldAuto(self, held)

    def revision(self) -> object:
        """See `HasRevision`."""
        return self._keyring.revision()

    async def last_change(self) -> LastChange | None:
        """Return who changed the stored login last, and when. See `ReportsLastChange`."""
        await self.load()
        return await (self._file if self._in_file else self._keyring).last_change()

    def findings(self) -> list[Finding]:
        """Return what other users can do to the home. See `Inspected`."""
        return self._file.findings()

    def set_location(self, *, in_file: bool) -> None:
        """Set where the login is now."""
        self._in_file = in_file

    async def _load_file(self, is_required: bool) -> Credentials | None:
        """Read the file. An unreadable file is an error only if the login is nowhere else."""
        try:
            return await self._file.load()
        except StoreUnavailable as fault:
            if is_required:
                raise
            _log.warning("beside the keyring entry there is a file that cannot be read: %s", fault)
            return None


@strip_tracebacks_of_methods
class _HeldAuto:
    def __init__(self, store: AutoStore, keyring: _HeldKeyring) -> None:
        self._store = store
        self._keyring = keyring

    async def load(self) -> Credentials | None:
        return await self._store.load()

    async def prepare(self) -> None:
        try:
            await self._keyring.prepare()
        except StoreUnavailable:
            await self._keyring.file.prepare()

    async def save(self, credentials: Credentials) -> None:
        """Save to the keyring. If that fails, save to the file, with a warning unless this machine has no keyring."""
        try:
            await self._keyring.save(credentials)
        except StoreUnavailable as fault:
            await self._keyring.file.save(credentials)
            if not isinstance(fault, NoKeyring):
                _log.warning("the login is in auth.json, because the keyring could not take it: %s", fault)
            self._store.set_location(in_file=True)
        else:
            self._store.set_location(in_file=False)
            self._store.in_keyring = True

    async def delete(self) -> None:
        """Remove both. Raises StoreUnavailable if a keyring that may have an entry cannot be used.

        The entry would come back later.
        """
        try:
            await self._keyring.delete()
        except NoKeyring:
            if self._store.in_keyring:
                raise
            await self._keyring.file.delete()
        else:
            self._store.in_keyring = False

    async def record(self, claim: RefreshClaim) -> None:
        """See `HeldStore`. The claim is kept in the home."""
        await self._keyring.record(claim)


def _is_newer(file: Credentials | None, entry: Credentials | None, saves: Sequence[SaveRecord]) -> bool:
    """Return whether the file's login was stored after the keyring's. If that is unknown, the keyring's counts."""
    if file is None or entry is None:
        return file is not None
    of_file, of_entry = digest_of(file), digest_of(entry)
    saved = [save.digest for save in saves]
    # A file without a save record is another program's. Whether it is older than the last save is unknown.
    if of_file in saved and saved[-1] in (of_file, of_entry):
        return saved[-1] != of_entry
    if isinstance(file, ChatgptTokens) and isinstance(entry, ChatgptTokens):
        return (file.last_refresh or 0.0) > (entry.last_refresh or 0.0)
    return False
