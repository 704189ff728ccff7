"""Reads auth.json: as it is now, or after another program has finished writing it.

codex does not take the lock, and some versions write in place. Therefore an incomplete file is read again for a moment
before it counts as corrupt.
"""

from collections.abc import Awaitable, Callable

from authstate.adapters.stores.auth_json_format import LARGEST, is_json_object
from authstate.adapters.stores.disk import Disk, unavailable
from authstate.adapters.stores.home_lock import HomeLock
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.ports import Clock

_REREADS = 5
_REREAD_WAIT = 0.02  # seconds between two reads of an incomplete file


class AuthJsonReader:
    """Reads the file of one home.

    Args:
        path: auth.json.
        home_lock: tells whether the home is missing.
        disk: reads the file.
        clock: times the waits.
    """

    def __init__(self, path: str, home_lock: HomeLock, disk: Disk, clock: Clock) -> None:
        self.path = path
        self._home_lock = home_lock
        self._disk = disk
        self._clock = clock

    def read(self) -> bytes | None:
        """Read the bytes of the file now. None if there is no file.

        Raises:
            StoreUnavailable: the file cannot be read, or its folder is temporarily missing, which is not a logout.
        """
        if reason := self._disk.reason_to_refuse(self.path):
            raise StoreUnavailable(reason)
        try:
            return self._disk.read(self.path, LARGEST + 1)
        except FileNotFoundError as error:
            if self._is_home_missing():
                raise unavailable("read", self.path, error) from error
            return None
        except OSError as error:
            raise unavailable("read", self.path, error) from error

    async def read_settled(self) -> bytes | None:
        """Read the bytes of the file, again for up to 0.1 s while they are incomplete. Raises StoreUnavailable."""
        return await self._until_complete(self.read(), self._read_on_loop)

    async def read_settled_off_loop(self) -> bytes | None:
        """Like `read_settled`, in a thread: while many homes are written, the disk lets a reader wait, too."""
        return await self._until_complete(await self._read_off_loop(), self._read_off_loop)

    async def _until_complete(self, data: bytes | None, read: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
        for _ in range(_REREADS):
            if data is None or is_json_object(data):
                break
            await self._clock.sleep(_REREAD_WAIT)
            data = await read()
        return data

    async def _read_on_loop(self) -> bytes | None:
        return self.read()

    async def _read_off_loop(self) -> bytes | None:
        return await self._disk.off_loop(self.read)

    def _is_home_missing(self) -> bool:
        try:
            return self._home_lock.is_home_missing()
        except OSError as error:
            raise unavailable("read", self.path, error) from error
