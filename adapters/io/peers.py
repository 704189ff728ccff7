"""Who is at the other end of a unix socket.

Linux and macOS tell the user of that process. On a system that does not, the mode of the socket is the only protection.
"""

import socket
import struct
import sys
from typing import Protocol

_LOCAL_PEERCRED = 1  # of macOS, at the level SOL_LOCAL
_SOL_LOCAL = 0


class HasSocketOptions(Protocol):
    """A socket, or what an event loop shows of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """See `socket.getsockopt`."""
        ...


def uid_of_peer(connection: HasSocketOptions) -> int | None:
    """Return the user id of the process that connected, or that listens. None if the system does not tell.

    Raises OSError: the connection is closed already.
    """
    if sys.platform == "linux":
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(uid)
    if sys.platform == "darwin":
        _, uid = struct.unpack_from("=II", connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76))
        return int(uid)
    return None
