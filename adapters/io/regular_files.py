"""Reads and writes regular files, and never waits for a pipe or a device."""

import errno
import os
import stat

_NOT_REGULAR = "Not a regular file"


def read_regular_file(path: str, limit: int) -> bytes:
    """The first `limit` bytes of a regular file. Never waits for a pipe or a device. Raises OSError."""
    return read_with_status(path, limit)[0]


def read_with_status(path: str, limit: int) -> tuple[bytes, os.stat_result]:
    """The same, with the owner and the mode of the file that was read."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        found = _check(handle, path)
        parts: list[bytes] = []
        while limit > 0 and (part := os.read(handle, limit)):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts), found
    finally:
        os.close(handle)


def write_regular_file(path: str, data: bytes) -> None:
    """Write a file. A new one is only for this user. What is no regular file is left alone. Raises OSError.

    Args:
        path: a regular file, whose content is replaced, or a path that does not exist.
        data: the whole content.
    """
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0), 0o600)
    except OSError as fault:
        if fault.errno == errno.ENXIO:  # a pipe that nobody reads, or a socket
            raise OSError(errno.ENXIO, _NOT_REGULAR, path) from None
        raise
    with open(handle, "wb") as file:
        _check(handle, path)
        file.truncate(0)
        file.write(data)


def _check(handle: int, path: str) -> os.stat_result:
    """The status of an open file. Raises OSError if it is no regular one."""
    found = os.fstat(handle)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENXIO, _NOT_REGULAR, path)
    return found
