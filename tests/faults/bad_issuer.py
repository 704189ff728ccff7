"""An issuer on loopback that answers with bytes that the test chooses, hangs, or resets the connection."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

HANG, RESET, HANG_HALFWAY = b"hang", b"reset", b"hang halfway"
"""Replies of `BadIssuer` that are not sent, but tell it what to do."""


def answer(status: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """An HTTP answer.

    Args:
        status: code and reason, for example "200 OK".
        body: the content.
        headers: more header lines.
        length: the value of `Content-Length`, if it is not the true one.
    """
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class BadIssuer:
    """Gives every request the same reply and counts the requests.

    Args:
        reply: the bytes that are sent, or `HANG`, `RESET` or `HANG_HALFWAY`.
        later: the reply to all requests after the first one, if it is another.
    """

    def __init__(self, reply: bytes, later: bytes | None = None) -> None:
        self.reply = reply
        self.later = reply if later is None else later
        self.requests = 0
        self.port = 0
        self.on_hang: Callable[[], None] = lambda: None
        """Called when a request was read that gets no answer, or only half of one."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            self.requests += 1
            await self.respond(writer)
            self.reply = self.later
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def respond(self, writer: asyncio.StreamWriter) -> None:
        if self.reply == RESET:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return
        if self.reply == HANG_HALFWAY:
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"access')
            await writer.drain()
        if self.reply in (HANG, HANG_HALFWAY):
            self.on_hang()
            await asyncio.Event().wait()
        writer.write(self.reply)
        await writer.drain()


@asynccontextmanager
async def serve_answers(reply: bytes, later: bytes | None = None) -> AsyncIterator[BadIssuer]:
    """Run a `BadIssuer` on loopback, at its `port`, until the block ends."""
    issuer = BadIssuer(reply, later)
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", 0)
    issuer.port = server.sockets[0].getsockname()[1]
    try:
        yield issuer
    finally:
        server.close()
