"""Events for listeners that take their time: async iterators, and coroutine functions.

Theory of operation. The task that causes an event only appends it to a buffer for each of these listeners, so no
listener delays anything. A buffer is bounded. When it is full, its oldest event is dropped, and the listener first
gets `EventsMissed` with the number of dropped events and the session after them. What is still in the buffer continues
from that session, so a listener that applies what it gets always arrives at the current session.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self
from weakref import WeakSet

from authstate.engine.model.events import AsyncListener, Event, EventsMissed, StateChanged, report_fault
from authstate.engine.model.session import Session

MOST_WAITING = 256
"""Events that may wait for a listener, if it does not say otherwise."""
_LAST_CALLS = 1.0  # seconds that listeners get at the end of the engine for the events that wait for them


class EventBuffer:
    """The events that wait for one listener.

    Args:
        session: the current one.
        limit: how many events may wait.
    """

    def __init__(self, session: Session, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a listener needs a buffer of at least one event, not {limit}")
        self._events: deque[Event] = deque()
        self._limit = limit
        self._missed = 0
        self._session = session  # before the first event of the buffer

    def put(self, event: Event) -> None:
        """Append an event. If the buffer is full, the oldest one is dropped and counted."""
        if len(self._events) == self._limit:
            self._pass(self._events.popleft())
            self._missed += 1
        self._events.append(event)

    def take(self) -> Event | None:
        """Remove and return the next event. None if there is none."""
        if self._missed:
            missed, self._missed = self._missed, 0
            return EventsMissed(missed, self._session)
        if not self._events:
            return None
        event = self._events.popleft()
        self._pass(event)
        return event

    def clear(self) -> None:
        """Drop everything, uncounted."""
        self._events.clear()
        self._missed = 0

    def _pass(self, event: Event) -> None:
        if isinstance(event, StateChanged):
            self._session = event.current


class EventStream:
    """An async iterator over the events of an engine, from the moment it was made.

    It ends when the engine is closed, after the events that wait, and at once with `aclose`. One that is dropped
    without `aclose` ends, too. Cancelling a task that waits for the next event loses no event.
    """

    def __init__(self, session: Session, limit: int) -> None:
        self._buffer = EventBuffer(session, limit)
        self._changed = asyncio.Event()
        self.is_over: bool = False
        """Whether no more events are added."""

    def put(self, event: Event) -> None:
        """Append an event."""
        if not self.is_over:
            self._buffer.put(event)
            self._changed.set()

    def end(self) -> None:
        """End after the events that wait."""
        self.is_over = True
        self._changed.set()

    async def aclose(self) -> None:
        """End at once: whoever waits for the next event sees the end. It may be called again."""
        self._buffer.clear()
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while (event := self._buffer.take()) is None:
            if self.is_over:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Calls:
    """The calls of a listener that is a coroutine function: one after the other, in a task while events wait.

    Args:
        listener: the coroutine function.
        session: the current one.
        tasks: holds the task while it runs.
    """

    def __init__(self, listener: AsyncListener, session: Session, tasks: "set[asyncio.Task[None]]") -> None:
        self._listener = listener
        self._buffer = EventBuffer(session, MOST_WAITING)
        self._tasks = tasks
        self._is_running = False

    def put(self, event: Event) -> None:
        """Append an event."""
        self._buffer.put(event)
        if not self._is_running:
            self._is_running = True
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def clear(self) -> None:
        """Drop the events that wait."""
        self._buffer.clear()

    async def _run(self) -> None:
        try:
            while (event := self._buffer.take()) is not None:
                try:
                    await self._listener(event)
                except Exception as error:
                    report_fault(error)
        finally:  # a listener may raise CancelledError by itself: then the next event goes on
            self._is_running = False


class EventStreams:
    """The streams of an engine, and its listeners that are coroutine functions.

    Args:
        session: returns the current session.
        on_open: called when somebody begins to listen.
    """

    def __init__(self, session: Callable[[], Session], on_open: Callable[[], None]) -> None:
        self._session = session
        self._on_open = on_open
        self._streams: WeakSet[EventStream] = WeakSet()
        self._calls: dict[_Calls, None] = {}  # in the order in which they were subscribed
        self._tasks: set[asyncio.Task[None]] = set()  # of the calls
        self._is_closed = False

    @property
    def are_open(self) -> bool:
        """Whether anybody listens."""
        return bool(self._calls) or any(not stream.is_over for stream in self._streams)

    def put(self, event: Event) -> None:
        """Add an event for everybody who listens here."""
        for stream in tuple(self._streams):
            stream.put(event)
        for calls in tuple(self._calls):
            calls.put(event)

    def open(self, limit: int) -> EventStream:
        """See `AuthEngine.events`."""
        stream = EventStream(self._session(), limit)
        if self._is_closed:
            stream.end()
            return stream
        self._streams.add(stream)
        self._note_opened()
        return stream

    def subscribe(self, listener: AsyncListener) -> Callable[[], None]:
        """Call a coroutine function with every event from now on. Returns a function that ends this: a call that is
        running is finished.
        """
        calls = _Calls(listener, self._session(), self._tasks)
        if not self._is_closed:
            self._calls[calls] = None
            self._note_opened()

        def end() -> None:
            self._calls.pop(calls, None)
            calls.clear()

        return end

    async def close(self, grace: float) -> None:
        """End all streams. Wait for the calls of listeners, at most a second or `grace` seconds; then cancel them.

        A listener that closes its own engine is neither waited for nor cancelled.
        """
        self._is_closed = True
        for stream in tuple(self._streams):
            stream.end()
        tasks = {task for task in self._tasks if task is not asyncio.current_task()}
        self._calls.clear()
        if tasks:
            try:
                await asyncio.wait(tasks, timeout=min(_LAST_CALLS, grace))
            finally:
                for task in tasks:
                    task.cancel()
            await asyncio.sleep(0)

    def _note_opened(self) -> None:
        """Call `on_open`, unless this is before the event loop runs: then the start of the engine does it."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self._on_open()
