"""Streams what happens in a broker, as server-sent events. No event holds a secret.

    stateChanged   accountId, previous, state, trigger, failure    somebody signed in or out, or a login is dead
    refreshed      accountId, expiresAt                            the account has new tokens
    refreshFailed  accountId, permanent, message                   the issuer gave none
    warning        accountId, code, message
    leaseEnded     id, accountId, state                            it was ended, or its time is over

Each reader has a queue of its own. A reader that does not keep up is dropped: its stream ends, and it has to begin
again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.metrics import BrokerMetrics
from authstate.engine.machines.lease import LeaseState
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.events import Event, RefreshFailed, StateChanged, Warned
from authstate.engine.model.states import Trigger

MOST_STREAMS = 32
"""Readers at the same time."""
QUEUE_LENGTH = 256
"""Events that may wait for a reader."""
_LEASES_EVERY = 1.0  # seconds between two looks at the leases, while there are readers
_KEEP_ALIVE = 15.0  # seconds after which a comment shows that the stream is alive


class SseStream:
    """The events for one reader."""

    def __init__(self) -> None:
        self._queue: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._is_over = False
        self.is_dropped: bool = False
        """Whether its reader was too slow."""

    def put(self, event: bytes) -> None:
        """Add an event. If too many wait, the stream is over, and nothing of it is kept."""
        if len(self._queue) >= QUEUE_LENGTH:
            self.is_dropped = True
            self.end()
            self._queue.clear()
        elif not self._is_over:
            self._queue.append(event)
            self._changed.set()

    def end(self) -> None:
        """End the stream after what waits."""
        self._is_over = True
        self._changed.set()

    async def events(self) -> AsyncIterator[bytes]:
        """Yield what to send. Ends with the stream."""
        yield b"retry: 1000\n\n"
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._is_over:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(_KEEP_ALIVE):
                    await self._changed.wait()
            except TimeoutError:
                yield b": alive\n\n"


class SseStreams:
    """The streams of a broker.

    Args:
        broker: whose events they are.
        metrics: count the streams.
    """

    def __init__(self, broker: Broker, metrics: BrokerMetrics) -> None:
        self._broker = broker
        self._metrics = metrics
        self._streams: set[SseStream] = set()
        self._watch: asyncio.Task[None] | None = None
        self._number = 0
        broker.events.subscribe(self._on_event)

    @property
    def is_full(self) -> bool:
        """Whether there are `MOST_STREAMS` readers."""
        return len(self._streams) >= MOST_STREAMS

    @contextmanager
    def open(self) -> Iterator[SseStream]:
        """Open a stream for a reader."""
        stream = SseStream()
        self._streams.add(stream)
        self._metrics.streams.inc()
        if self._watch is None:
            self._watch = asyncio.create_task(self._watch_leases())
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            self._metrics.streams.dec()
            if stream.is_dropped:
                self._metrics.dropped_streams.inc()
            if not self._streams and self._watch is not None:
                self._watch.cancel()
                self._watch = None

    def close(self) -> None:
        """End all streams."""
        for stream in self._streams:
            stream.end()

    def _on_event(self, account: str, event: Event) -> None:
        if self._streams and (described := _described(event)) is not None:
            name, members = described
            self._send(name, {"accountId": account, **members})

    def _send(self, name: str, members: Mapping[str, Any]) -> None:
        self._number += 1
        data = msgspec.json.encode(members)
        event = b"id: %d\nevent: %b\ndata: %b\n\n" % (self._number, name.encode(), data)
        for stream in tuple(self._streams):
            stream.put(event)

    async def _watch_leases(self) -> None:
        """Report leases that are over. Any process may end one, so the list is looked at again and again."""
        changes = self._broker.leases.watch()
        while True:
            await self._broker.clock.sleep(_LEASES_EVERY)
            for lease in await changes.look():
                if lease.state is not LeaseState.ACTIVE:
                    self._send("leaseEnded", {"id": lease.id, "accountId": lease.account, "state": lease.state})


class SseResponse(Response):
    """Sends the events to a reader, until it closes the connection, is too slow, or the broker ends.

    Args:
        streams: of the broker.
    """

    def __init__(self, streams: SseStreams) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        with self._streams.open() as stream:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            watch = asyncio.create_task(_end_with_client(receive, stream))
            try:
                async for event in stream.events():
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                watch.cancel()


async def _end_with_client(receive: Receive, stream: SseStream) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.end()


def _described(event: Event) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the members of an event. None for one that says nothing new."""
    if isinstance(event, StateChanged):
        credentials, failure = event.current.credentials, event.current.failure
        if event.trigger is Trigger.TOKENS_REFRESHED:
            expires_at = credentials.expires_at if isinstance(credentials, ChatgptTokens) else None
            return "refreshed", {"expiresAt": expires_at}
        return "stateChanged", {
            "previous": event.previous.state,
            "state": event.current.state,
            "trigger": event.trigger,
            "failure": failure.message if failure else None,
        }
    if isinstance(event, RefreshFailed):
        return "refreshFailed", {"permanent": event.permanent, "message": str(event.error)}
    if isinstance(event, Warned):
        return "warning", {"code": event.code, "message": event.message}
    return None
