"""A small HTTP server for clients on this machine: the browser of a login, and the child of `authstate run`.

h11 parses and writes HTTP; this module enforces the limits. Each connection carries one request, of the method that the
server was made for. `Host` must be `localhost` or the address that was reached, with this port, so that no page on the
web can reach the server under another name (DNS rebinding). A request with the `Origin` of another site is refused. The
head may take at most 16 KiB and a body 512 KiB, both together 10 seconds. When too many connections wait, the oldest is
dropped.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

import h11
import msgspec

from authstate.adapters.confidential import Confidential
from authstate.adapters.network.loopback_sockets import IPV6, LoopbackSocket

SERVER_NAME: Final = "authstate"
"""The `Server` header. Another login recognizes authstate by it."""

CONTENT_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_HEADERS: Final = {
    "Server": SERVER_NAME,
    "Connection": "close",
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_LONGEST_REJECT: Final = 4 * 1024 * 1024  # bytes that are read and dropped, so that the client reads the response


class Request(Confidential, frozen=True):
    """A request that passed the checks. Its query may hold a code."""

    path: str
    query: str
    is_foreign: bool
    """A page of another site caused it, as the browser says with `Sec-Fetch-Site` or, an older one, with `Referer`. A
    redirect from the issuer is one, too."""
    content_type: str = ""
    body: bytes = b""


class Response(msgspec.Struct, frozen=True):
    """A response. The server adds the headers that protect it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Limits(msgspec.Struct, frozen=True):
    """The limits for all clients together."""

    connections: int = 100
    """Connections that wait for a request, and as many that wait for a response."""
    head_bytes: int = 16 * 1024
    body_bytes: int = 512 * 1024
    patience: float = 10.0
    """Seconds that a request may take to arrive, and a response to be read."""
    drain: float = 1.0
    """Seconds for which the server continues to read after it refused a request."""


Handler = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[HTTPStatus, Sequence[str]], Response]
"""Makes the response to a request that is refused: from its status, and the `Host` headers if these are the reason."""


class LoopbackServer:
    """Serves on a bound socket. Needs a running event loop.

    Args:
        listener: bound and listening; it is closed with the server. A `LoopbackSocket` is served on both addresses.
        handle: answers a request.
        limits: the limits for all clients together.
        method: the only one that is served. The body of a GET is ignored.
        refuse: makes the response to a request that is refused; by default plain text.
    """

    def __init__(
        self,
        listener: socket.socket,
        handle: Handler,
        limits: Limits | None = None,
        *,
        method: str = "GET",
        refuse: Refuse | None = None,
    ) -> None:
        self.port: int = listener.getsockname()[1]
        self._method = method
        self._handle = handle
        self._refuse = refuse or _plain
        self._limits = limits or Limits()
        self._listener = listener
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: dict[asyncio.Task[None], None] = {}
        """Tasks that do not handle a request yet, the oldest first."""

    @property
    def is_listening(self) -> bool:
        """Whether new connections are served."""
        return self._listener.fileno() != -1

    async def start(self) -> None:
        """Accept connections, unless the server was stopped before. Closes the socket on failure or cancellation."""
        if not self.is_listening:
            return
        try:
            beside = self._listener.beside if isinstance(self._listener, LoopbackSocket) else None
            for listener in (self._listener, beside):
                if listener is not None and self.is_listening:  # it may have been stopped while the other one began
                    server = await asyncio.start_server(self._accept, sock=listener, start_serving=False)
                    self._servers.append(server)
                    await server.start_serving()
        except BaseException:
            self.stop_listening()
            raise

    def stop_listening(self) -> None:
        """Release the port now. Requests that are being handled are still answered."""
        for server in reversed(self._servers):  # the first one's socket closes the other
            server.close()
        self._listener.close()

    async def aclose(self, grace: float = 2.0) -> None:
        """Release the port and end every connection. Requests that are being handled have `grace` seconds to finish."""
        self.stop_listening()
        for idle in tuple(self._idle):
            idle.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for late in tuple(self._tasks):
            late.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.is_listening:
            writer.transport.abort()
            return
        if len(self._idle) >= self._limits.connections:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.cancel()
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        self._idle[task] = None
        task.add_done_callback(self._forget)
        task.add_done_callback(lambda _: writer.close())  # also when it was cancelled before its first step

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._idle.pop(task, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes - 1)
        try:
            async with asyncio.timeout(self._limits.patience):
                event = await _receive(http, reader, self._limits.head_bytes)
                if event is None:
                    return
                checked = self._checked(event, writer.get_extra_info("sockname")[0])
                if self._method == "GET":
                    http.next_event()  # a request without a body is whole with this
                elif isinstance(checked, Request):
                    checked = await self._with_body(checked, http, reader)
            response = await self._respond(checked, event)
        except h11.RemoteProtocolError as error:
            response = self._refuse(HTTPStatus(error.error_status_hint), ())
        except (OSError, TimeoutError):
            return
        try:
            async with asyncio.timeout(self._limits.patience):
                writer.transport.set_write_buffer_limits(0)  # so `drain` waits until the system has taken everything
                writer.write(_encoded(http, response))
                await writer.drain()
                await self._drain(http, reader, writer)
        except (OSError, TimeoutError):
            writer.transport.abort()

    async def _with_body(
        self, request: Request, http: h11.Connection, reader: asyncio.StreamReader
    ) -> Request | Response:
        """Read the body. A refusal if it is too long or does not come whole."""
        parts: list[bytes] = []
        left = self._limits.body_bytes
        while True:
            event = http.next_event()
            if isinstance(event, h11.EndOfMessage):
                return msgspec.structs.replace(request, body=b"".join(parts))
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
                left -= len(event.data)
                if left < 0:
                    return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ())
            else:
                return self._refuse(HTTPStatus.BAD_REQUEST, ())

    async def _respond(self, request: Request | Response, event: h11.Request) -> Response:
        """Let the handler answer a request that passed the checks."""
        if isinstance(request, Response):
            return request if event.method != b"HEAD" else msgspec.structs.replace(request, body=b"")
        if len(self._tasks) - len(self._idle) >= self._limits.connections:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, ())
        task = asyncio.current_task()
        assert task is not None
        self._idle.pop(task, None)
        try:
            return await self._handle(request)
        except Exception as error:
            context = {"message": "the loopback server failed to answer a request", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            return self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, ())

    def _checked(self, event: h11.Request, address: str) -> Request | Response:
        headers = [(name, value.decode("latin-1")) for name, value in event.headers]
        ours = {f"{name}:{self.port}" for name in ("localhost", f"[{IPV6}]" if address == IPV6 else address)}
        hosts = [value.strip().lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in ours:
            return self._refuse(HTTPStatus.MISDIRECTED_REQUEST, hosts)
        origins = {value.strip().lower() for name, value in headers if name == b"origin"}
        if not origins <= {f"http://{host}" for host in ours}:
            return self._refuse(HTTPStatus.FORBIDDEN, ())
        if event.method != self._method.encode():
            refused = self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, ())
            return msgspec.structs.replace(refused, headers={**refused.headers, "Allow": self._method})
        target = event.target.decode("ascii", "replace")
        if not target.startswith("/"):
            return self._refuse(HTTPStatus.BAD_REQUEST, ())
        path, _, query = target.partition("?")
        sites = {value.strip().lower() for name, value in headers if name == b"sec-fetch-site"}
        referrers = [value.strip().lower() for name, value in headers if name == b"referer"]
        is_foreign = not sites <= {"none", "same-origin"} or not all(_is_of(ours, link) for link in referrers if link)
        kinds = [value for name, value in headers if name == b"content-type"]
        return Request(path, query, is_foreign=is_foreign, content_type=kinds[-1] if kinds else "")

    async def _drain(self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read on for a moment if the client still sends. Otherwise it might never read the response."""
        if http.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED) and not http.trailing_data[0]:
            return
        task = asyncio.current_task()
        assert task is not None
        self._idle[task] = None
        writer.write_eof()
        left = _LONGEST_REJECT
        async with asyncio.timeout(self._limits.drain):
            while left > 0 and (data := await reader.read(65536)):
                left -= len(data)


def _is_of(hosts: set[str], url: str) -> bool:
    """Whether a page of one of these hosts has this address."""
    scheme, separator, rest = url.partition("://")
    return scheme == "http" and bool(separator) and re.split("[/?#]", rest, maxsplit=1)[0] in hosts


async def _receive(http: h11.Connection, reader: asyncio.StreamReader, most: int) -> h11.Request | None:
    """Read the head of the request; None if there is none. h11 refuses one that has more than `most` bytes."""
    left = most
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        data = await reader.read(min(left, 8192))
        left -= len(data)
        http.receive_data(data)


def _plain(status: HTTPStatus, hosts: Sequence[str]) -> Response:
    text = f"{status.value} {status.phrase}\n".encode()
    return Response(status, text, {"Content-Type": "text/plain; charset=utf-8"})


def _encoded(http: h11.Connection, response: Response) -> bytes:
    headers = {**_HEADERS, **response.headers}
    if response.status != HTTPStatus.NO_CONTENT:
        headers["Content-Length"] = str(len(response.body))
    head = h11.Response(
        status_code=response.status, headers=list(headers.items()), reason=HTTPStatus(response.status).phrase.encode()
    )
    parts = [http.send(head), http.send(h11.Data(data=response.body)), http.send(h11.EndOfMessage())]
    return b"".join(part or b"" for part in parts)
