"""A port of the loopback redirect: take it, or ask the login that holds it to give way.

The issuer redirects to two ports and no other. One that is held by another login, of codex or of authstate, is asked
for with `GET /cancel`, as codex asks. Whatever else holds one is only looked at, with a harmless `GET /`, and named in
the error.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import h11
import msgspec

from authstate.adapters.oauth.issuer import shown_text
from authstate.adapters.oauth.redirect.server import SERVER_NAME
from authstate.adapters.oauth.redirect.sockets import IPV4, AddressTaken, listen_on
from authstate.engine.model.errors import LoginFailed

PORTS: Final = (1455, 1457)

_ANSWER_WITHIN: Final = 1.0  # seconds, for a program on this machine
_FREE_WITHIN: Final = 3.0  # seconds that a login may take to give its port free
_LOOK_EVERY: Final = 0.02
_LONGEST_ANSWER: Final = 16 * 1024


class PortsBusy(LoginFailed):
    """No port that the issuer redirects to can be used. Names who holds them."""


class _Answer(msgspec.Struct, frozen=True):
    status: int
    server: str
    body: bytes

    @property
    def is_login(self) -> bool:
        """Whether it comes from a login of authstate, or from one of codex, whose server gives itself away by this."""
        if self.server == SERVER_NAME:
            return True
        return self.status == 404 and self.server.startswith("tiny-http") and self.body == b"Not Found"


async def open_port(ports: Sequence[int] = PORTS) -> socket.socket:
    """A listening socket on the first of these ports that can be had, on 127.0.0.1 and [::1]. 0 is any free port.

    Another login that holds one ends by this. Takes up to 5 seconds for each port that is held.

    Raises:
        PortsBusy: none can be had.

    Cancellation leaves no socket open; a login that was asked to give way may have ended.
    """
    reasons = []
    for port in ports:
        try:
            return listen_on(port)
        except AddressTaken as taken:
            reason = await _reclaim(port, taken)
            if isinstance(reason, socket.socket):
                return reason
        reasons.append(f"port {port} {reason}")
    raise PortsBusy(
        "the sign-in page cannot come back to this computer: " + "; ".join(reasons) + ". End the program that holds "
        "the port, or sign in with a device code"
    )


async def _reclaim(port: int, taken: AddressTaken) -> socket.socket | str:
    """The port, from a login that gave way; or why it cannot be had."""
    where = "" if taken.address == IPV4 else f" on [{taken.address}]"
    holder = await _ask(taken.address, port, "/")
    if holder is None:
        return f"cannot be used{where} ({taken.reason}), and what holds it speaks no HTTP"
    if not holder.is_login:
        name = shown_text(holder.server)
        server = f'a server that calls itself "{name}"' if name else "a server that is no login of ours"
        return f"is held{where} by {server}"
    await _ask(taken.address, port, "/cancel")
    try:
        async with asyncio.timeout(_FREE_WITHIN):
            other = taken
            while other.address == taken.address:
                try:
                    return listen_on(port)
                except AddressTaken as still:
                    other = still
                await asyncio.sleep(_LOOK_EVERY)
    except TimeoutError:
        return f"is held{where} by another login, which did not end within {_FREE_WITHIN:g} seconds"
    return await _reclaim(port, other)


async def _ask(address: str, port: int, path: str) -> _Answer | None:
    """What the holder of the port answers; None when it gives no answer that is HTTP."""
    host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                return await _exchange(reader, writer, host, path)
            finally:
                writer.transport.abort()
    except (OSError, h11.RemoteProtocolError):  # TimeoutError is an OSError
        return None


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str) -> _Answer:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_ANSWER)
    asking = h11.Request(method="GET", target=path, headers=[("Host", host), ("Connection", "close")])
    writer.write((http.send(asking) or b"") + (http.send(h11.EndOfMessage()) or b""))
    response, body = None, bytearray()
    while len(body) < _LONGEST_ANSWER:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            break
    if response is None:
        raise h11.RemoteProtocolError("no answer")
    server = dict(response.headers).get(b"server", b"")
    return _Answer(response.status_code, server.decode("latin-1"), bytes(body))
