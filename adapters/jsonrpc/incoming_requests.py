"""Requests and notifications of the other side: handled in order, answered once, limited in number and bytes."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from authstate.adapters.jsonrpc.batched_output import BatchedOutput
from authstate.adapters.jsonrpc.framing import INTERNAL_ERROR, OVERLOADED, RpcError, encode, encode_answer

MAX_PENDING = 4096
"""The largest number of unanswered requests."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""The largest number of bytes of the requests that wait for an exclusive one."""

Handler = Callable[[str, Raw | None], object]
"""Takes a method and its params. Returns a result, an awaitable of one, or `Exclusive` of that. Raises RpcError."""
NotificationHandler = Callable[[str, Raw | None], None]
"""Takes a notification's method and params."""


class Exclusive:
    """An awaitable whose request must be answered before the next one is handled."""

    __slots__ = ("awaitable",)

    def __init__(self, awaitable: Awaitable[object]) -> None:
        self.awaitable: Awaitable[object] = awaitable


class IncomingRequest(msgspec.Struct, gc=False):
    """A request or, with an empty id, a notification."""

    id: bytes
    method: str
    params: Raw | None
    size: int
    """The length of its line in bytes."""


class _Call:
    """A request that is being answered, and the notifications that it has caused so far."""

    __slots__ = ("id", "is_answered", "notifications", "owner")

    def __init__(self, owner: "IncomingRequests", id_: bytes) -> None:
        self.owner = owner
        self.id = id_
        self.notifications: list[bytes] = []
        self.is_answered = False


_current_call: ContextVar[_Call | None] = ContextVar("_current_call", default=None)


class _WaitingRequests:
    """Requests that wait for an exclusive one, in order, limited in bytes."""

    def __init__(self) -> None:
        self._requests: deque[IncomingRequest] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._requests)

    def has_room(self, size: int) -> bool:
        return self._bytes + size <= MAX_WAITING_BYTES

    def push(self, request: IncomingRequest) -> None:
        self._requests.append(request)
        self._bytes += request.size

    def pop(self) -> IncomingRequest:
        request = self._requests.popleft()
        self._bytes -= request.size
        return request

    def clear(self) -> None:
        self._requests.clear()
        self._bytes = 0


class IncomingRequests:
    """Handles the requests and notifications of the other side.

    Args:
        handle, on_notification, max_pending: see `Peer`.
        output: writes the answers.
    """

    def __init__(
        self, handle: Handler, on_notification: NotificationHandler | None, output: BatchedOutput, max_pending: int
    ) -> None:
        self._handle = handle
        self._on_notification = on_notification
        self._output = output
        self._max_pending = max_pending
        self._waiting = _WaitingRequests()
        self._exclusive: asyncio.Future[object] | None = None
        self._when_unblocked: deque[Callable[[], None]] = deque()
        self._running: set[asyncio.Future[object]] = set()

    def take(self, request: IncomingRequest) -> None:
        """Handle a request now, or after the exclusive request before it. Refuse it if there are too many."""
        if self._exclusive is None and (not request.id or len(self._running) < self._max_pending):
            self._deliver(request)
        elif len(self._running) + len(self._waiting) < self._max_pending and self._waiting.has_room(request.size):
            self._waiting.push(request)
        elif request.id:
            self.answer(request.id, RpcError(OVERLOADED, "too many requests are unanswered: send fewer at once"))

    def answer(self, id_: bytes, outcome: object) -> None:
        """Send an answer: a result, or an error for an exception."""
        if not isinstance(outcome, BaseException):
            try:
                self._output.send(encode_answer(id_, outcome))
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
        self._output.send(b'{"id":' + id_ + b',"error":' + encode(body) + b"}\n")

    def defer(self, line: bytes) -> bool:
        """Keep a notification until after the answer, if the request that is being handled caused it.

        Returns:
            Whether the notification is kept.
        """
        call = _current_call.get()
        if call is None or call.is_answered or call.owner is not self:
            return False
        call.notifications.append(line)
        return True

    def when_unblocked(self, call: Callable[[], None]) -> None:
        """See `Peer.when_unblocked`."""
        if self._exclusive is None:
            call()
        else:
            self._when_unblocked.append(call)

    async def drained(self, timeout: float) -> bool:
        """See `Peer.drained`."""
        deadline = asyncio.get_running_loop().time() + timeout
        while self._running:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await asyncio.wait(self._running, timeout=left)
        return True

    def close(self) -> None:
        """Cancel the running requests, and drop the waiting ones."""
        self._waiting.clear()
        for task in list(self._running):
            task.cancel()

    def _deliver(self, request: IncomingRequest) -> None:
        if request.id:
            self._serve(request.id, request.method, request.params)
        elif self._on_notification is not None:
            try:
                self._on_notification(request.method, request.params)
            except Exception as error:
                _report("a handler of notifications failed", error)

    def _serve(self, id_: bytes, method: str, params: Raw | None) -> None:
        call = _Call(self, id_)
        token = _current_call.set(call)
        try:
            self._handle_outcome(call, self._handle(method, params))
        except Exception as error:
            self._respond(call, error)
        finally:
            _current_call.reset(token)

    def _handle_outcome(self, call: _Call, outcome: object) -> None:
        """Send the answer, or start a task if the outcome must be awaited. Runs in the context of the call."""
        awaitable = outcome.awaitable if isinstance(outcome, Exclusive) else outcome
        if not isinstance(awaitable, Awaitable):
            self._respond(call, awaitable)
            return
        task: asyncio.Future[object] = asyncio.ensure_future(awaitable)
        self._running.add(task)
        if isinstance(outcome, Exclusive):
            self._exclusive = task
        task.add_done_callback(partial(self._finish, call))
        if self._output.is_closed:
            task.cancel()

    def _finish(self, call: _Call, task: asyncio.Future[object]) -> None:
        """Handle the outcome of a task that is done, and then the requests that waited for it."""
        batch = self._output.begin()
        try:
            self._running.discard(task)
            if not task.cancelled():
                self._handle_outcome(call, task.exception() or task.result())
            elif not self._output.is_closed:
                self._respond(call, RpcError(INTERNAL_ERROR, "the request was cancelled"))
            if task is self._exclusive:
                self._exclusive = None
                while self._waiting and self._exclusive is None:
                    self._deliver(self._waiting.pop())
        finally:
            self._output.flush(batch)
            while self._exclusive is None and self._when_unblocked:
                self._when_unblocked.popleft()()

    def _respond(self, call: _Call, outcome: object) -> None:
        self.answer(call.id, outcome)
        call.is_answered = True
        for line in call.notifications:
            self._output.send(line)


def _report(what: str, fault: BaseException) -> None:
    """Report a fault of this program to the event loop. The other side receives only its class."""
    asyncio.get_running_loop().call_exception_handler({"message": what, "exception": fault})
