"""Asks the running broker of a home through its unix socket, for authstate's own commands.

A broker of another home or of another user is never asked for a token. Whatever goes wrong, the commands do without a
broker: they read the store themselves.
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode

from authstate.adapters.broker.listeners import HAS_UNIX_SOCKETS, HOME_HEADER, SOCKET_VARIABLE, default_socket

_CONNECT_WITHIN = 2.0  # seconds
_ANSWER_WITHIN = 10.0  # seconds
_TOKEN_WITHIN = 40.0  # seconds: a refresh takes up to 30
_LARGEST = 1024 * 1024  # bytes


class BrokerClient:
    """The client of a home's broker.

    Args:
        home: the home.
        path: of the unix socket.
    """

    def __init__(self, home: str, path: str) -> None:
        self._home = home
        self._path = path

    @classmethod
    def of(cls, home: str | os.PathLike[str], environ: Mapping[str, str]) -> "BrokerClient | None":
        """Return the client of a home. None if no broker of it is running, as far as can be seen."""
        path = socket_path(home, environ)
        if path is None or not os.path.exists(path):
            return None
        return cls(os.fspath(home), path)

    async def get(self, path: str, within: float = _ANSWER_WITHIN, **query: str) -> dict[str, Any] | None:
        """Ask for a JSON object.

        Args:
            path: of the API.
            within: seconds to wait at most.
            query: the parameters.

        Returns:
            The object. None if the broker has no such answer, for whatever reason.

        Cancelling it closes the connection.
        """
        target = path + (f"?{urlencode(query)}" if query else "")
        try:
            async with asyncio.timeout(within):
                received = await self._exchange(target)
        except (OSError, TimeoutError, ValueError):
            return None
        return self._read(received)

    async def account(self, name: str) -> dict[str, Any] | None:
        """Ask for an account, which refreshes its access token if it has expired. See `GET /v1/accounts/NAME`."""
        return await self.get(f"/v1/accounts/{quote(name, safe='')}")

    async def token(self, name: str, min_lifetime: float = 0.0) -> dict[str, Any] | None:
        """Ask for the token of an account. See `GET /v1/token`."""
        return await self.get("/v1/token", _TOKEN_WITHIN, account=name, min_lifetime=f"{min_lifetime:g}")

    async def _exchange(self, target: str) -> bytes:
        """Send a request, and return all that comes back. Raises OSError: there is no broker of ours."""
        async with asyncio.timeout(_CONNECT_WITHIN):
            reader, writer = await asyncio.open_unix_connection(self._path, limit=_LARGEST)
        try:
            if not self._is_trusted(writer.get_extra_info("socket")):
                raise ConnectionRefusedError
            request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            writer.write(request.encode("ascii"))
            received = await reader.read(_LARGEST)
            while part := await reader.read(_LARGEST):
                received += part
                if len(received) > _LARGEST:
                    raise ConnectionResetError
            return received
        finally:
            writer.close()

    def _is_trusted(self, connection: socket.socket) -> bool:
        """Whether the server is a process of this user, of the owner of the home, or of root."""
        from authstate.adapters.io.peers import uid_of_peer

        return uid_of_peer(connection) in (os.geteuid(), os.stat(self._home).st_uid, 0, None)

    def _read(self, received: bytes) -> dict[str, Any] | None:
        """Return the JSON object of an answer of this home's broker. None for anything else."""
        import h11  # imported here, because most commands find no broker
        import msgspec

        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
        http.send(h11.EndOfMessage())
        http.receive_data(received)
        http.receive_data(b"")
        body = bytearray()
        try:
            head = http.next_event()
            if not isinstance(head, h11.Response) or head.status_code != 200 or not self._is_home(head):
                return None
            while isinstance(part := http.next_event(), h11.Data):
                body += part.data
            members = msgspec.json.decode(bytes(body))
        except (h11.RemoteProtocolError, ValueError):
            return None
        return members if isinstance(members, dict) else None

    def _is_home(self, head: Any) -> bool:
        """Whether the answer comes from the broker of this home."""
        named = dict(head.headers).get(HOME_HEADER.encode(), b"").decode("ascii", "replace")
        try:
            return bool(named) and os.path.samefile(unquote(named), self._home)
        except (OSError, ValueError):
            return False


def socket_path(home: str | os.PathLike[str], environ: Mapping[str, str]) -> str | None:
    """Return the path of the unix socket that the environment names, or else that of the home. None on Windows."""
    if not HAS_UNIX_SOCKETS:
        return None
    return os.path.abspath(environ.get(SOCKET_VARIABLE, "").strip() or default_socket(home))
