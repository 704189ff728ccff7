"""A port of the loopback redirect: take it, or ask the login that holds it to give way.

The issuer redirects to two ports and no other. One that is held by another login, of codex or of authstate, is asked
for with `GET /cancel`, as codex asks. Whatever else holds one is only looked at, with a harmless `GET /`, and named in
the error.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Final

import h11
import msgspec

from authstate.adapters.oauth.issuer import shown_text
from authstate.adapters.oauth.loopback_http import SERVER_NAME
from authstate.engine.errors import LoginFailed

LOOPBACK: Final = "127.0.0.1"
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
    """A bound socket on the first of these ports that can be had. 0 is any free port.

    Another login that holds one ends by this. Takes up to 5 seconds for each port that is held.

    Raises:
        PortsBusy: none can be had.

    Cancellation leaves no socket open; a login that was asked to give way may have ended.
    """
    reasons = []
    for port in ports:
        try:
            return _bind(port)
        except OSError as error:
            reason = await _reclaim(port, error)
            if isinstance(reason, socket.socket):
                return reason
        reasons.append(f"port {port} {reason}")
    raise PortsBusy(
        "the sign-in page cannot come back to this computer: " + "; ".join(reasons) + ". End the program that holds "
        "the port, or sign in with a device code"
    )


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(256)  # now: with the address alone taken, another could still begin to listen
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


async def _reclaim(port: int, error: OSError) -> socket.socket | str:
    """The port, from a login that gave way; or why it cannot be had."""
    holder = await _ask(port, "/")
    if holder is None:
        return f"cannot be used ({(error.strerror or type(error).__name__).lower()}), and what holds it speaks no HTTP"
    if not holder.is_login:
        name = shown_text(holder.server)
        return "is held by " + (f'a server that calls itself "{name}"' if name else "a server that is no login of ours")
    await _ask(port, "/cancel")
    try:
        async with asyncio.timeout(_FREE_WITHIN):
            while True:
                try:
                    return _bind(port)
                except OSError:
                    await asyncio.sleep(_LOOK_EVERY)
    except TimeoutError:
        return f"is held by another login, which did not end within {_FREE_WITHIN:g} seconds"


async def _ask(port: int, path: str) -> _Answer | None:
    """What the holder of the port answers; None when it gives no answer that is HTTP."""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                return await _exchange(reader, writer, f"{LOOPBACK}:{port}", path)
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
