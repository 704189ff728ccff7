"""What was read in the step that took the lock, for the reads that follow at once.

A refresh reads auth.json and the claims as soon as it has the lock. Both are read in the step that takes it, because
each step costs two changes of thread.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from authstate.adapters.stores.auth_json_format import is_json_object
from authstate.adapters.stores.file_reader import AuthJsonReader
from authstate.adapters.stores.refresh_claims_file import RefreshClaimsFile
from authstate.engine.machines.refresh_claim import RefreshClaim
from authstate.engine.model.errors import StoreUnavailable


class Found(NamedTuple):
    """What a home holds."""

    data: bytes | None
    """The bytes of auth.json. None if there is no file, or if it is not complete or not readable."""
    claims: Mapping[str, RefreshClaim]
    """The claims, by fingerprint."""


class ReadAhead:
    """What one home held when its lock was taken.

    It lasts until the event loop runs something else, because codex takes no lock and may write at any time.

    Args:
        reader: reads auth.json.
        claims: reads the claims.
    """

    def __init__(self, reader: AuthJsonReader, claims: RefreshClaimsFile) -> None:
        self._reader = reader
        self._claims = claims
        self._found: Found | None = None

    def read(self) -> Found:
        """Read both. Requires the lock. Blocks briefly; raises nothing."""
        data = None
        with suppress(StoreUnavailable):
            data = self._reader.read()
        return Found(data if data is not None and is_json_object(data) else None, self._claims.load())

    def keep(self, found: Found) -> None:
        """Keep what was read until the event loop runs something else."""
        self._found = found
        asyncio.get_running_loop().call_soon(self.forget)

    def forget(self) -> None:
        """Forget it: it may have changed."""
        self._found = None

    @property
    def data(self) -> bytes | None:
        """See `Found`. None if it is not known."""
        return self._found.data if self._found is not None else None

    @property
    def claims(self) -> Mapping[str, RefreshClaim] | None:
        """See `Found`. None if they are not known."""
        return self._found.claims if self._found is not None else None
