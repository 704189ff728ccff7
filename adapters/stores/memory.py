"""Stores credentials in memory until the process ends. For `cli_auth_credentials_store = "ephemeral"` and tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import get_args

import msgspec

from authstate.engine.machines.refresh_claim import RefreshClaim, with_claim
from authstate.engine.model.arguments import ensure_instance
from authstate.engine.model.credentials import Credentials, ExternalTokens
from authstate.engine.model.errors import StoreBusy
from authstate.engine.ports import HeldStore


class MemoryStore:
    """A `CredentialStore` without a disk. Share one object between engines to share the login.

    Args:
        credentials: what is stored at the start.
        lock_timeout: seconds to wait for the lock before `StoreBusy`.

    Raises:
        TypeError: the credentials are something else.
    """

    def __init__(self, credentials: Credentials | None = None, *, lock_timeout: float = 60.0) -> None:
        if credentials is not None:
            ensure_instance(credentials, get_args(Credentials), "credentials", "ApiKey.parse(text), for example")
        self.credentials = credentials
        """What is stored now. A test may set it, as another process would."""
        self.loads: int = 0
        """How often the credentials were loaded, with the lock or without."""
        self.saves = 0
        self.deletes = 0
        self.claims: dict[str, RefreshClaim] = {}
        """The refresh claims, by fingerprint."""
        self._lock = asyncio.Lock()
        self.lock_timeout = lock_timeout

    def describe(self) -> str:
        """Return the place, for a person."""
        return "the memory of this process"

    async def load(self) -> Credentials | None:
        """Return what is stored."""
        self.loads += 1
        return self.credentials

    async def claim_on(self, fingerprint: str) -> RefreshClaim | None:
        """See `CredentialStore`."""
        return self.claims.get(fingerprint)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[HeldStore]:
        """Take the lock. Raises StoreBusy. Cancellation while waiting leaves no lock behind."""
        try:
            async with asyncio.timeout(self.lock_timeout):
                await self._lock.acquire()
        except TimeoutError:
            raise StoreBusy(
                f"another task holds the stored credentials for more than {self.lock_timeout:g} s: try again later"
            ) from None
        try:
            yield _HeldMemory(self)
        finally:
            self._lock.release()


class _HeldMemory:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def load(self) -> Credentials | None:
        return await self._store.load()

    async def prepare(self) -> None:
        """Do nothing: memory needs no preparation."""

    async def save(self, credentials: Credentials) -> None:
        if isinstance(credentials, ExternalTokens):
            raise TypeError("external tokens live in memory only: they are never stored")
        self._store.saves += 1
        self._store.credentials = credentials

    async def delete(self) -> None:
        self._store.deletes += 1
        self._store.credentials = None

    async def record(self, claim: RefreshClaim) -> None:
        self._store.claims = with_claim(self._store.claims, msgspec.structs.replace(claim, holder="this process"))
