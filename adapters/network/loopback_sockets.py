"""The sockets of a loopback redirect: one port, on 127.0.0.1 and on [::1] alike.

The issuer sends the browser to `localhost`, and a browser may try [::1] first. Another program that listens there would
receive the code. A port is therefore used only if both addresses are available. A machine without IPv6 has only one.
"""

import errno
import os
import socket
from typing import Final

IPV4: Final = "127.0.0.1"
IPV6: Final = "::1"

_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
_TRIES: Final = 16  # for a port that is free on both addresses, when any port will do


class AddressTaken(OSError):
    """One of the two addresses is not available.

    Args:
        address: which one.
        reason: what the operating system says.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(reason)
        self.address = address
        self.reason = reason


class LoopbackSocket(socket.socket):
    """A listening socket on 127.0.0.1. Closing it also closes the socket on [::1]."""

    beside: socket.socket | None = None
    """The socket on [::1]; None on a machine without IPv6."""

    def close(self) -> None:
        """Close both."""
        super().close()
        if self.beside is not None:
            self.beside.close()


def listen_on(port: int) -> LoopbackSocket:
    """Listen on a port of both addresses, without blocking; 0 is any port.

    Raises:
        AddressTaken: one of them is not available. Neither is held then.
    """
    for _ in range(_TRIES - 1 if port == 0 else 0):
        try:
            return _listen_on(port)
        except AddressTaken as taken:
            if taken.address == IPV4:
                raise
    return _listen_on(port)


def _listen_on(port: int) -> LoopbackSocket:
    listener = LoopbackSocket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        _listen(listener, IPV4, port)
        listener.beside = _listen_beside(listener.getsockname()[1])
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_beside(port: int) -> socket.socket | None:
    """The same port of [::1]; None where that address does not exist."""
    if not socket.has_ipv6:
        return None
    try:
        beside = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError:  # a kernel without IPv6
        return None
    try:
        beside.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _listen(beside, IPV6, port)
    except BaseException as error:
        beside.close()
        if isinstance(error, AddressTaken) and error.errno in _NO_SUCH_ADDRESS:
            return None
        raise
    return beside


def _listen(listener: socket.socket, address: str, port: int) -> None:
    try:
        if os.name == "posix":  # elsewhere it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(256)  # now: with the address alone taken, another could still begin to listen
    except OSError as error:
        taken = AddressTaken(address, (error.strerror or type(error).__name__).lower())
        taken.errno = error.errno
        raise taken from None
    listener.setblocking(False)
