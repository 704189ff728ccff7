"""Ports that no other program takes between two uses.

A port that the system chose may be given to any program as soon as it is free, and tests run in several processes. So a
test that closes a port and uses it again takes one below the range from which systems choose. Each process that runs
tests has a part of it for itself, also beside another run on the same machine.
"""

import errno
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

_FIRST, _PER_PROCESS, _PARTS = 20_000, 500, 24
"""Linux chooses from 32768 on, macOS and Windows from 49152 on."""


def _own_part() -> tuple[int, FileLock]:
    """The first port of a part that no other process has. The lock ends with this process."""
    for part in range(_PARTS):
        lock = FileLock(Path(tempfile.gettempdir(), f"authstate-tests-ports-{part}.lock"), timeout=0)
        with suppress(Timeout, OSError):  # or it is the file of another user
            lock.acquire()
            return _FIRST + _PER_PROCESS * part, lock
    raise RuntimeError(f"{_PARTS} processes use ports already")


_OWN, _LOCK = _own_part()  # now, so that no test sees the lock's file descriptor appear


def _ports() -> Iterator[int]:
    for number in count():
        yield _OWN + number % _PER_PROCESS


_NEXT = _ports()


def private_port() -> int:
    """Return a port that is free on 127.0.0.1, and on [::1] where there is one. Each call returns another one."""
    return next(port for port in _NEXT if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as one, suppress(OSError):
        one.bind(("127.0.0.1", port))
        return _is_free_beside(port)
    return False


def _is_free_beside(port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET6) as other:
            other.bind(("::1", port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE  # a machine without IPv6 has another error
    return True
