"""A simulated disk on which auth.json is a mount point: it cannot be replaced or removed."""

import errno
import os

from authstate.adapters.stores.disk import Disk


class MountedDisk(Disk):
    """The real disk, with the errors that the operating system gives for an auth.json that is a mount point.

    Use it where a test cannot mount anything. The file can still be written in place.

    Raises:
        OSError: EBUSY, from `check_replaceable` for any file, and from `rename` and `remove` for auth.json.
    """

    def check_replaceable(self, target: str) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), target)

    def rename(self, source: str, target: str) -> None:
        if target.endswith("auth.json"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), target)
        super().rename(source, target)

    def remove(self, path: str) -> None:
        if path.endswith("auth.json"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        super().remove(path)
