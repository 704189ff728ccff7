"""A JSON-RPC peer over newline-delimited JSON, without the `"jsonrpc"` member. It knows nothing of accounts.

Both sides send requests. A `Peer` receives bytes and writes bytes. It neither opens nor closes anything, so it works
over pipes, between threads and in tests.

Order. Requests are handled in the order they arrive. If a handler returns a plain result, it is answered at once,
without a task. If it returns an awaitable, that runs in a task beside the others. If the awaitable is wrapped in
`Exclusive`, later requests also wait until it is done. Its result may again be an awaitable or `Exclusive`. A handler
that must wait before it knows whether it is exclusive can thus block the others for that time only. A notification that
a request causes is sent after that request's answer.

Limits. A line longer than the limit is skipped to its end and never held. Unanswered requests are limited in number
and, while they wait, in bytes. Further requests are refused with `OVERLOADED`. While the other side does not read, the
peer stops reading too.

    framing.py             lines, and the parsing of one line
    batched_output.py      output, in batches
    incoming_requests.py   the other side's requests and their answers
    outgoing_requests.py   our requests and their answers
"""

from collections.abc import Callable
from typing import Protocol

from msgspec import Raw

from authstate.adapters.jsonrpc.batched_output import BatchedOutput, Writer
from authstate.adapters.jsonrpc.framing import (
    ABSENT,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    LONGEST_LINE,
    NULL,
    OVERLOADED,
    PARSE_ERROR,
    Envelope,
    LineSplitter,
    RemoteError,
    RpcError,
    encode,
    is_id,
    read_line,
)
from authstate.adapters.jsonrpc.incoming_requests import (
    MAX_PENDING,
    MAX_WAITING_BYTES,
    Exclusive,
    Handler,
    IncomingRequest,
    IncomingRequests,
    NotificationHandler,
)
from authstate.adapters.jsonrpc.outgoing_requests import OutgoingRequests, PeerClosed, is_error

__all__ = [
    "INTERNAL_ERROR",
    "INVALID_REQUEST",
    "LONGEST_LINE",
    "MAX_PENDING",
    "MAX_WAITING_BYTES",
    "OVERLOADED",
    "PARSE_ERROR",
    "Envelope",
    "Exclusive",
    "Handler",
    "NotificationHandler",
    "Peer",
    "PeerClosed",
    "RemoteError",
    "RpcError",
    "Writer",
]


class Reader(Protocol):
    """Delivers a peer's bytes."""

    def pause_reading(self) -> None:
        """Deliver no more until `resume_reading`."""
        ...

    def resume_reading(self) -> None:
        """Deliver again."""
        ...


class Peer:
    """One end of a connection.

    Args:
        handle: answers the other side's requests. An exception other than RpcError is answered with -32603 and the name
            of its class only, and goes to the event loop's exception handler.
        on_notification: receives the other side's notifications, in order with its requests. Its exceptions go to the
            event loop's exception handler.
        longest_line: the length of the longest line, in bytes.
        max_pending: the largest number of unanswered requests.
        id_prefix: for a connection shared with another sender of requests. Ids are strings with this prefix, which
            nobody else can guess. If it is empty, ids are integers from 0.
    """

    def __init__(
        self,
        handle: Handler,
        on_notification: NotificationHandler | None = None,
        *,
        longest_line: int = LONGEST_LINE,
        max_pending: int = MAX_PENDING,
        id_prefix: str = "",
    ) -> None:
        self._longest_line = longest_line
        self._lines = LineSplitter(longest_line)
        self._reader: Reader | None = None
        self._output = BatchedOutput()
        self._incoming = IncomingRequests(handle, on_notification, self._output, max_pending)
        self._outgoing = OutgoingRequests(self._output, id_prefix)

    @property
    def closed(self) -> bool:
        """Whether the connection is closed: nothing is sent any more."""
        return self._output.is_closed

    # What the transport calls

    def connect(self, writer: Writer, reader: Reader | None = None) -> None:
        """Set the transport of the peer. Call it before any data arrives."""
        self._output.writer = writer
        self._reader = reader

    def data_received(self, data: bytes) -> None:
        """Process bytes from the other side. Answers that need no waiting are written before this returns."""
        if self.closed:
            return
        batch = self._output.begin()
        try:
            for line in self._lines.feed(data):
                if line is None:
                    self._refuse_long()
                elif line and not line.isspace():
                    self._take_line(line)
        finally:
            self._output.flush(batch)

    def message_received(self, message: Envelope, size: int) -> None:
        """Process a message that the caller parsed from a line of `size` bytes, without its newline.

        Limits, refusals and order are those of `data_received`. Use only one of the two on a connection.
        """
        if self.closed:
            return
        batch = self._output.begin()
        try:
            if size > self._longest_line:
                self._refuse_long()
            else:
                self._take(message, size)
        finally:
            self._output.flush(batch)

    def refuse(self, id_: bytes | Raw, error: RpcError) -> None:
        """Answer a request that did not reach this peer with an error. An invalid id is answered as `null`."""
        batch = self._output.begin()
        try:
            self._incoming.answer(bytes(id_) if is_id(bytes(id_)) else NULL, error)
        finally:
            self._output.flush(batch)

    def eof_received(self) -> None:
        """Process the end of the other side's output: its last line counts without a newline, and our requests fail."""
        rest = self._lines.rest()
        if rest:
            self.data_received(rest + b"\n")
        self._outgoing.fail()

    def pause_writing(self) -> None:
        """Stop reading, because the writer holds too much."""
        if self._reader is not None and not self.closed:
            self._reader.pause_reading()

    def resume_writing(self) -> None:
        """Read again, because the writer has room."""
        if self._reader is not None and not self.closed:
            self._reader.resume_reading()

    def close(self) -> None:
        """End the connection: cancel running handlers, and fail our requests. May be called more than once."""
        self._output.is_closed = True
        self._incoming.close()
        self._outgoing.fail()

    # What the application calls

    def notify(self, method: str, params: object) -> None:
        """Send a notification. If the request that is being handled caused it, send it after the answer."""
        line = b'{"method":' + encode(method) + b',"params":' + encode(params) + b"}\n"
        if not self._incoming.defer(line):
            self._output.send(line)

    async def request(self, method: str, params: object) -> Raw:
        """Send a request and wait for its answer, without a time limit. If this is cancelled, the answer is dropped.

        Raises:
            RemoteError: the answer is an error.
            PeerClosed: the connection ended.
        """
        return await self._outgoing.request(method, params)

    def when_unblocked(self, call: Callable[[], None]) -> None:
        """Call `call` once no exclusive request is running (see `Exclusive`), or now if none is. It must not block."""
        self._incoming.when_unblocked(call)

    async def drained(self, timeout: float) -> bool:
        """Wait until every request is answered, at most `timeout` seconds. Return whether every request is answered."""
        return await self._incoming.drained(timeout)

    # Messages

    def _take_line(self, line: bytes) -> None:
        try:
            message = read_line(line)
        except RpcError as error:
            self._incoming.answer(NULL, error)
        else:
            self._take(message, len(line))

    def _take(self, message: Envelope, size: int) -> None:
        id_ = bytes(message.id)
        if message.method is None:
            self._take_response(id_, message)
        elif message.id is not ABSENT and not is_id(id_):
            self._incoming.answer(NULL, RpcError(INVALID_REQUEST, "the id of a request must be a string or an integer"))
        else:
            params = None if bytes(message.params) in (b"", NULL) else message.params
            self._incoming.take(IncomingRequest(id_, message.method, params, size))

    def _take_response(self, id_: bytes, message: Envelope) -> None:
        if message.result is ABSENT and not is_error(message):
            why = "the message is no request, no notification and no response"
            self._incoming.answer(id_ if is_id(id_) else NULL, RpcError(INVALID_REQUEST, why))
        else:
            self._outgoing.take_answer(message)

    def _refuse_long(self) -> None:
        self._incoming.answer(NULL, RpcError(INVALID_REQUEST, f"the line is longer than {self._longest_line} bytes"))
