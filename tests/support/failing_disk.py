"""A disk on which chosen steps fail for chosen files."""

import errno
import os

from authstate.adapters.stores.disk import Disk


class FailingDisk(Disk):
    """The real disk, on which some steps raise EIO.

    Args:
        failing: for each step that fails, the end of the paths for which it does, for example `remove=".pending"`. With
            `fixed`, no file can be replaced.
    """

    def __init__(self, **failing: str) -> None:
        self.failing = failing

    def _fail(self, step: str, path: str) -> None:
        if path.endswith(self.failing.get(step, "\0")):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def read(self, path: str, limit: int) -> bytes:
        self._fail("read", path)
        return super().read(path, limit)

    def overwrite(self, path: str, data: bytes) -> None:
        self._fail("overwrite", path)
        super().overwrite(path, data)

    def remove(self, path: str) -> None:
        self._fail("remove", path)
        super().remove(path)

    def release_space(self, path: str, size: int) -> None:
        self._fail("release_space", path)
        super().release_space(path, size)

    def publish(self, path: str, data: bytes, temporary: str) -> None:
        self._fail("publish", path)
        super().publish(path, data, temporary)

    def is_not_replaceable(self, target: str) -> bool:
        return "fixed" in self.failing
