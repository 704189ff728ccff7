"""Ports that no other program takes between two uses.

A port that the system chose may be given to any program as soon as it is free, and tests run in several processes. So a
test that closes a port and uses it again takes one below the range from which systems choose.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

_FIRST, _PER_PROCESS = 20_000, 1000
"""Linux chooses from 32768 on, macOS and Windows from 49152 on."""


def _ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
    for number in count(os.getpid()):  # other runs of the tests count from elsewhere
        yield _FIRST + _PER_PROCESS * worker + number % _PER_PROCESS


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
