"""Disks that raise the errors of a full, read-only or mounted disk, for machines where a test cannot mount one."""

import os
from errno import EROFS

from support.mounted_disk import MountedDisk

from authstate.adapters.stores.disk import Disk
from authstate.adapters.stores.os_locks import DiskLock


class UnwritableDisk(Disk):
    """A disk on which writes fail while `is_broken` is set.

    Args:
        number: the `errno` value of the errors.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_broken = False

    def write(self, path: str, data: bytes) -> None:
        self.raise_if_broken()
        super().write(path, data)

    def raise_if_broken(self) -> None:
        if self.is_broken:
            raise OSError(self.number, os.strerror(self.number))


class ReadOnlyDisk(UnwritableDisk):
    """A disk on which a lock cannot be taken either while `is_broken` is set."""

    def lock(self, path: str) -> DiskLock:
        self.raise_if_broken()
        return super().lock(path)


class ReadOnlyFolderDisk(MountedDisk):
    """A read-only folder with a mounted auth.json that can be written."""

    def lock(self, path: str) -> DiskLock:
        raise OSError(EROFS, os.strerror(EROFS), path)

    def is_not_replaceable(self, target: str) -> bool:
        return True

    def publish(self, path: str, data: bytes, temporary: str) -> None:
        if os.path.basename(path).startswith("auth.json"):
            raise OSError(EROFS, os.strerror(EROFS), path)
        super().publish(path, data, temporary)


class UnwritableMountedDisk(MountedDisk):
    """A mounted auth.json that cannot be written in place while `is_broken` is set, which it is at first.

    Args:
        number: the `errno` value of the error.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_broken = True

    def reserve_space(self, path: str, size: int) -> int:
        if self.is_broken:
            raise OSError(self.number, os.strerror(self.number), path)
        return super().reserve_space(path, size)
