"""Reads regular files, and never waits for a pipe or a device."""

import errno
import os
import stat


def read_regular_file(path: str, limit: int) -> bytes:
    """The first `limit` bytes of a regular file. Never waits for a pipe or a device. Raises OSError."""
    return read_with_status(path, limit)[0]


def read_with_status(path: str, limit: int) -> tuple[bytes, os.stat_result]:
    """The same, with the owner and the mode of the file that was read."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ENXIO, "Not a regular file", path)
        parts: list[bytes] = []
        while limit > 0 and (part := os.read(handle, limit)):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts), found
    finally:
        os.close(handle)
