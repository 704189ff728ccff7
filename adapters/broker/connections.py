"""The connections of the broker's server: uvicorn's, with bounds on what a client may hold.

uvicorn closes a connection that is idle after an answer. It waits without an end for the first request, and for the
rest of one. Here, a head must be whole within 10 seconds and 32 KiB. Of the connections that wait for a request, the
oldest are closed when there are more than 256. A client may send at most 64 requests before it reads their answers. One
that reads nothing for 10 seconds while data waits for it is cut off, also while its connection is being closed. So idle
and slow clients keep nobody else from an answer.
"""

import asyncio
import os
from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from authstate.adapters.broker.http_errors import JSON_HEADERS, bare_answer, error_body
from authstate.adapters.io.peers import uid_of_peer

HEAD_WITHIN = 10.0
"""Seconds for the head of a request, and for a reader to go on reading."""
LARGEST_HEAD = 32 * 1024
"""Bytes."""
MOST_IDLE = 256
"""Connections that wait for a request."""
MOST_PIPELINED = 64
"""Requests of one connection that wait for the answers to earlier ones. uvicorn takes any number into memory."""


class _TooManyRequests(Exception):
    """A connection has sent too many requests without waiting for an answer."""


class IdleConnections:
    """The connections of a server that handle no request, the oldest first."""

    def __init__(self) -> None:
        self._idle: dict[BoundedHttpProtocol, None] = {}

    def add(self, connection: "BoundedHttpProtocol") -> None:
        """Note that a connection waits for a request. Close the oldest one if there are too many."""
        self._idle[connection] = None
        if len(self._idle) > MOST_IDLE:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.transport.abort()

    def __contains__(self, connection: "BoundedHttpProtocol") -> bool:
        """Whether a connection waits for a request."""
        return connection in self._idle

    def discard(self, connection: "BoundedHttpProtocol") -> None:
        """Note that a connection handles a request, or is closed."""
        self._idle.pop(connection, None)


class BoundedHttpProtocol(HttpToolsProtocol):
    """A connection. `of` makes the class for a server."""

    idle: IdleConnections
    most: int
    _timer: asyncio.TimerHandle | None = None  # for the head
    _write_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_in_head = True

    @classmethod
    def of(cls, most: int) -> "type[BoundedHttpProtocol]":
        """Return the class for the connections of a server. If it has `most` of them, further requests are refused."""
        return type(cls.__name__, (cls,), {"idle": IdleConnections(), "most": most})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head."""
        super().connection_made(transport)
        if self.scheme == "http":  # the end of a TLS connection has a timeout of its own, in asyncio
            transport.set_write_buffer_limits(0)  # call `pause_writing` for any data that the system does not take
        self._await_head()
        self.idle.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cancel_timers()
        self.idle.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, and bound a head that is not whole yet."""
        self._head_bytes += len(data)
        super().data_received(data)
        # uvicorn no longer closes an idle connection once anything comes: an empty line, or the rest of a body.
        is_idle = self in self.idle and self.timeout_keep_alive_task is None
        if self.transport.is_closing():
            return
        if not self._is_in_head:
            self._head_bytes = 0
        elif self._head_bytes > LARGEST_HEAD:
            self._end_with(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        if self._timer is None and (self._is_in_head or is_idle):
            self._await_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._is_in_head = False
        self._head_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.idle.discard(self)
        app = self.app
        is_overloaded = max(len(self.connections), len(self.tasks)) >= self.most
        self.app: Any = _answer_overload if is_overloaded else app  # for this request
        try:
            super().on_headers_complete()
        finally:
            self.app = app
        if len(self.pipeline) > MOST_PIPELINED:
            raise _TooManyRequests  # the parser stops, and uvicorn closes the connection

    def on_response_complete(self) -> None:
        """The connection may wait for the next request."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.pipeline:
            self.flow.pause_reading()
        elif self.cycle.response_complete:
            self.idle.add(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request. `msg` is uvicorn's word for it."""
        self._end_with(HTTPStatus.BAD_REQUEST)

    def _end_with(self, status: HTTPStatus) -> None:
        self.transport.write(bare_answer(status))
        self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read: give it some time."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(HEAD_WITHIN, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_WITHIN, self.transport.abort)

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._write_timer = None


class OwnersHttpProtocol(BoundedHttpProtocol):
    """A connection of the unix socket: only a process of this user or of root is served."""

    _is_admitted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close the connection of a stranger at once."""
        uid = uid_of_peer(transport.get_extra_info("socket"))
        self._is_admitted = uid in (os.geteuid(), 0, None)
        if self._is_admitted:
            super().connection_made(transport)
            return
        self.transport = transport
        transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._is_admitted:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, but nothing that a stranger sent before its connection was closed."""
        if self._is_admitted:
            super().data_received(data)


async def _answer_overload(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that comes while there are too many connections, and close its connection."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    body = error_body(status)
    headers = {**JSON_HEADERS, "Content-Length": str(len(body)), "Connection": "close", "Retry-After": "1"}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
