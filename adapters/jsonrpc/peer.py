"""A JSON-RPC peer over newline-delimited JSON, without the `"jsonrpc"` member. It knows nothing of accounts.

Both sides send requests. A `Peer` is fed bytes and writes bytes; it neither opens nor closes anything, so pipes,
threads and tests can carry it.

Order. Requests are handled in the order they come. A handler that returns a plain result is answered at once, without a
task. One that returns an awaitable runs in a task beside the others; wrapped in `InOrder`, it also keeps later requests
waiting until it is done. What it brings may be one of these again: so a handler that must wait before it knows whether
it answers in order keeps the others waiting for that long, and no longer. A notification that a request causes goes out
after that request's answer.

Bounds. A line longer than the limit is skipped to its end and never held. Requests that are not answered yet are
limited in number and, while they wait, in bytes; beyond that they are refused with `OVERLOADED`. While the other side
does not read, the peer stops reading too.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from authstate.adapters.confidential import without_frames
from authstate.adapters.jsonrpc.framing import (
    ABSENT,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    LONGEST_LINE,
    OVERLOADED,
    PARSE_ERROR,
    Envelope,
    LineSplitter,
    RemoteError,
    RpcError,
    is_id,
    read_line,
    remote_error,
)

__all__ = [
    "INTERNAL_ERROR",
    "INVALID_REQUEST",
    "LONGEST_LINE",
    "OVERLOADED",
    "PARSE_ERROR",
    "InOrder",
    "Peer",
    "PeerClosed",
    "RemoteError",
    "RpcError",
]

MOST_PENDING = 4096
MOST_WAITING_BYTES = 64 * 1024 * 1024


class PeerClosed(Exception):
    """The other side went away before it answered."""


class InOrder:
    """An awaitable whose request must be answered before the next one is handled."""

    __slots__ = ("awaitable",)

    def __init__(self, awaitable: Awaitable[object]) -> None:
        self.awaitable = awaitable


class Writer(Protocol):
    """Where a peer's bytes go. Never blocks, and says through `Peer.pause_writing` when it holds too much."""

    def write(self, data: bytes) -> None:
        """Send, or hold until it can be sent."""


class Reader(Protocol):
    """Where a peer's bytes come from."""

    def pause_reading(self) -> None:
        """Feed no more until `resume_reading`."""

    def resume_reading(self) -> None:
        """Go on."""


Handler = Callable[[str, Raw | None], object]
"""Takes a method and its params; returns a result, an awaitable of one, or `InOrder` of that. Raises RpcError."""
Listener = Callable[[str, Raw | None], None]
"""Takes a notification's method and params."""

_NULL = b"null"
_encode = msgspec.json.Encoder().encode


class _Request(msgspec.Struct, gc=False):
    """A request or, with an empty id, a notification that waits its turn."""

    id: bytes
    method: str
    params: Raw | None
    size: int


class _Turn:
    """A request that is being answered, and the notifications that it caused so far."""

    __slots__ = ("answered", "held", "id", "peer")

    def __init__(self, peer: "Peer", id_: bytes) -> None:
        self.peer = peer
        self.id = id_
        self.held: list[bytes] = []
        self.answered = False


_turn: ContextVar[_Turn | None] = ContextVar("_turn", default=None)


class Peer:
    """One end of a connection.

    Args:
        handle: answers the other side's requests. What it raises other than RpcError becomes -32603 with the name of
            its class and nothing else, and goes to the event loop's exception handler.
        notified: hears the other side's notifications, in order with its requests. What it raises goes to the event
            loop's exception handler.
        longest_line: in bytes.
        most_pending: how many requests may be unanswered at once.
        id_prefix: for a connection that is shared with another asker: ids are strings that begin with this, a text that
            nobody else can guess. Empty: ids are integers from 0.
    """

    def __init__(
        self,
        handle: Handler,
        notified: Listener | None = None,
        *,
        longest_line: int = LONGEST_LINE,
        most_pending: int = MOST_PENDING,
        id_prefix: str = "",
    ) -> None:
        self._handle = handle
        self._notified = notified
        self._longest_line = longest_line
        self._most_pending = most_pending
        self._lines = LineSplitter(longest_line)
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._batch: list[bytes] | None = None
        self._waiting: deque[_Request] = deque()
        self._waiting_bytes = 0
        self._blocker: asyncio.Future[object] | None = None
        self._when_unblocked: deque[Callable[[], None]] = deque()
        self._running: set[asyncio.Future[object]] = set()
        self._asked: dict[bytes, asyncio.Future[Raw]] = {}
        self._id_form = b'"' + id_prefix.encode() + b'%d"' if id_prefix else b"%d"
        self._next_id = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.closed = False
        """The connection is over: nothing is sent any more."""
        self.dropped = 0
        """Answers that no request of ours waits for: unknown, given up on, or answered already."""

    # What the transport calls

    def connect(self, writer: Writer, reader: Reader | None = None) -> None:
        """Give the peer its transport. Call it before any data comes."""
        self._writer = writer
        self._reader = reader

    def data_received(self, data: bytes) -> None:
        """Take bytes from the other side. Answers that need no waiting are written before this returns."""
        if self.closed:
            return
        batch = self._begin()
        try:
            for line in self._lines.feed(data):
                if line is None:
                    self._answer(
                        _NULL, RpcError(INVALID_REQUEST, f"the line is longer than {self._longest_line} bytes")
                    )
                elif line and not line.isspace():
                    self._take(line)
        finally:
            self._flush(batch)

    def refuse(self, id_: bytes | Raw, error: RpcError) -> None:
        """Answer a request that was kept from this peer. An id that is none is answered as `null`."""
        batch = self._begin()
        try:
            self._answer(bytes(id_) if is_id(bytes(id_)) else _NULL, error)
        finally:
            self._flush(batch)

    def eof_received(self) -> None:
        """The other side will send no more: its last line counts without a newline, and our questions fail."""
        rest = self._lines.rest()
        if rest:
            self.data_received(rest + b"\n")
        self._fail_questions()

    def pause_writing(self) -> None:
        """The writer holds too much: stop reading."""
        if self._reader is not None and not self.closed:
            self._reader.pause_reading()

    def resume_writing(self) -> None:
        """The writer has room again: go on reading."""
        if self._reader is not None and not self.closed:
            self._reader.resume_reading()

    def close(self) -> None:
        """The connection is over: running handlers are cancelled, questions raise PeerClosed. Any number of times."""
        self.closed = True
        self._waiting.clear()
        self._waiting_bytes = 0
        for task in list(self._running):
            task.cancel()
        self._fail_questions()

    # What the application calls

    def notify(self, method: str, params: object) -> None:
        """Send a notification: after the answer, when the request that is being handled caused it."""
        line = b'{"method":' + _encode(method) + b',"params":' + _encode(params) + b"}\n"
        turn = _turn.get()
        if turn is None or turn.answered or turn.peer is not self:
            self._send(line)
        else:
            turn.held.append(line)

    async def request(self, method: str, params: object) -> Raw:
        """Ask the other side and wait, without a limit of its own. Cancelled, the answer is dropped when it comes.

        Raises:
            RemoteError: the answer is an error.
            PeerClosed: there is no other side any more.
        """
        if self.closed:
            raise PeerClosed("the connection is closed")
        id_ = self._id_form % self._next_id
        self._next_id += 1
        answer: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self._asked[id_] = answer
        try:
            self._send(b'{"method":' + _encode(method) + b',"id":' + id_ + b',"params":' + _encode(params) + b"}\n")
            return await answer
        finally:
            self._asked.pop(id_, None)

    def when_unblocked(self, call: Callable[[], None]) -> None:
        """Call once no request keeps others waiting (see `InOrder`): now, if there is none. It must not block."""
        if self._blocker is None:
            call()
        else:
            self._when_unblocked.append(call)

    async def drained(self, timeout: float) -> bool:
        """Wait until every request so far is answered, at most so many seconds. Whether that came true."""
        if not self._running:
            return True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True

    # Lines

    def _take(self, line: bytes) -> None:
        try:
            message = read_line(line)
        except RpcError as error:
            self._answer(_NULL, error)
            return
        id_ = bytes(message.id)
        if message.method is None:
            self._take_answer(id_, message)
        elif message.id is not ABSENT and not is_id(id_):
            self._answer(_NULL, RpcError(INVALID_REQUEST, "the id of a request must be a string or an integer"))
        else:
            params = None if bytes(message.params) in (b"", _NULL) else message.params
            if id_ and self._blocker is None and len(self._running) < self._most_pending:
                self._serve(id_, message.method, params)
            else:
                self._enqueue(_Request(id_, message.method, params, len(line)))

    def _take_answer(self, id_: bytes, message: Envelope) -> None:
        failed = message.error is not ABSENT and bytes(message.error) != _NULL
        if not failed and message.result is ABSENT:
            why = "the message is no request, no notification and no response"
            self._answer(id_ if is_id(id_) else _NULL, RpcError(INVALID_REQUEST, why))
            return
        answer = self._asked.pop(id_, None)
        if answer is None or answer.done():
            self.dropped += 1
        elif failed:
            answer.set_exception(remote_error(message.error))
        else:
            answer.set_result(message.result)

    # Requests

    def _enqueue(self, request: _Request) -> None:
        """Let it wait for the request in front of it. A notification with nothing in front is delivered at once."""
        if self._blocker is None and not request.id:
            self._deliver(request)
        elif (
            len(self._running) + len(self._waiting) >= self._most_pending
            or self._waiting_bytes + request.size > MOST_WAITING_BYTES
        ):
            if request.id:
                self._answer(request.id, RpcError(OVERLOADED, "too many requests are unanswered: send fewer at once"))
        else:
            self._waiting.append(request)
            self._waiting_bytes += request.size

    def _deliver(self, request: _Request) -> None:
        if request.id:
            self._serve(request.id, request.method, request.params)
        elif self._notified is not None:
            try:
                self._notified(request.method, request.params)
            except Exception as error:
                _report("a listener to notifications failed", error)

    def _serve(self, id_: bytes, method: str, params: Raw | None) -> None:
        turn = _Turn(self, id_)
        token = _turn.set(turn)
        try:
            self._go_on(turn, self._handle(method, params))
        except Exception as error:
            self._conclude(turn, error)
        finally:
            _turn.reset(token)

    def _go_on(self, turn: _Turn, outcome: object) -> None:
        """Answer, or have a task do what must be done first. Runs in the context of the turn."""
        awaitable = outcome.awaitable if isinstance(outcome, InOrder) else outcome
        if not isinstance(awaitable, Awaitable):
            self._conclude(turn, awaitable)
            return
        task: asyncio.Future[object] = asyncio.ensure_future(awaitable)
        self._running.add(task)
        self._idle.clear()
        if isinstance(outcome, InOrder):
            self._blocker = task
        task.add_done_callback(partial(self._finish, turn))
        if self.closed:
            task.cancel()

    def _finish(self, turn: _Turn, task: asyncio.Future[object]) -> None:
        """A handler's task is done: answer or go on, and let the next requests in."""
        batch = self._begin()
        try:
            self._running.discard(task)
            if not task.cancelled():
                self._go_on(turn, task.exception() or task.result())
            elif not self.closed:
                self._conclude(turn, RpcError(INTERNAL_ERROR, "the request was cancelled"))
            if task is self._blocker:
                self._blocker = None
                while self._waiting and self._blocker is None:
                    request = self._waiting.popleft()
                    self._waiting_bytes -= request.size
                    self._deliver(request)
        finally:
            self._flush(batch)
            if not self._running:
                self._idle.set()
            while self._blocker is None and self._when_unblocked:
                self._when_unblocked.popleft()()

    def _conclude(self, turn: _Turn, outcome: object) -> None:
        self._answer(turn.id, outcome)
        turn.answered = True
        for line in turn.held:
            self._send(line)

    def _answer(self, id_: bytes, outcome: object) -> None:
        if not isinstance(outcome, BaseException):
            try:
                self._send(b'{"id":' + id_ + b',"result":' + _encode(outcome) + b"}\n")
                return
            except (TypeError, ValueError, RecursionError) as error:
                outcome = error
        if isinstance(outcome, RpcError):
            body: dict[str, Any] = {"code": outcome.code, "message": outcome.message}
            if outcome.data is not None:
                body["data"] = outcome.data
        else:
            body = {"code": INTERNAL_ERROR, "message": f"internal error ({type(outcome).__name__})"}
            _report("a request could not be answered", outcome)
        self._send(b'{"id":' + id_ + b',"error":' + _encode(body) + b"}\n")

    def _fail_questions(self) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(PeerClosed("the other side went away before it answered"))

    # Writing: what one read causes goes out in one write

    def _begin(self) -> bool:
        if self._batch is not None:
            return False
        self._batch = []
        return True

    def _flush(self, mine: bool) -> None:
        if not mine:
            return
        batch, self._batch = self._batch, None
        fault = self._write(b"".join(batch)) if batch else None
        del batch
        if fault is not None:
            raise fault

    def _send(self, line: bytes) -> None:
        if self._batch is not None:
            self._batch.append(line)
            return
        fault = self._write(line)
        del line
        if fault is not None:
            raise fault

    def _write(self, data: bytes) -> RuntimeError | None:
        """Write, if there is somebody to read. A fault is returned: a frame that raises it must not hold the data."""
        try:
            if self._writer is not None and not self.closed:
                self._writer.write(data)
        except Exception as error:
            return without_frames(error)
        return None


def _report(what: str, fault: BaseException) -> None:
    """Tell a fault of this program, which the other side learns no more of than its class."""
    asyncio.get_running_loop().call_exception_handler({"message": what, "exception": fault})
