"""What an engine offers to those who want to know what happens to the login."""

from collections.abc import Callable
from typing import cast

from authstate.engine.flows.engine_flows import EngineFlows
from authstate.engine.flows.event_streams import MOST_WAITING, EventStream
from authstate.engine.machines.refresh_trace import TraceStep
from authstate.engine.model.events import AsyncListener, Listener, is_coroutine_function


class EventSource:
    """The part of an `AuthEngine` that delivers its events. `Event` lists them."""

    _flows: EngineFlows

    def subscribe(self, listener: Listener | AsyncListener) -> Callable[[], None]:
        """Call `listener` with every event from now on, in order.

        A function is called in the task that caused the event, before that task goes on. It must not block.

        A coroutine function is run in a task of the engine, one call after the other, so it may take its time and use
        the engine. If more than 256 events wait for it, it gets `EventsMissed` instead of the oldest ones. At the end
        of the engine it gets a second for the events that wait. Then it is cancelled.

        An exception that a listener raises goes to the event loop's exception handler. So does a `TypeError` for a
        function that returns a coroutine.

        Returns:
            A function that ends the subscription. It may be called again. A call that is running is finished.

        Raises:
            TypeError: the listener cannot be called.
        """
        if is_coroutine_function(listener):
            return self._flows.streams.subscribe(cast("AsyncListener", listener))
        return self._flows.listeners.subscribe(cast("Listener", listener))

    def subscribe_trace(self, listener: Callable[[TraceStep], None]) -> Callable[[], None]:
        """Call `listener` with every step of a refresh from now on, in order: for a journal.

        A step is a `ClaimStep`, `TokenSent`, `TokenAnswered`, `AccessRefused` or
        `EngineEnded`. The listener is called in the task that took the step, and must not block. What it raises goes to
        the event loop's exception handler.

        Returns:
            A function that ends the subscription. It may be called again.

        Raises:
            TypeError: the listener cannot be called, or is a coroutine function.
        """
        return self._flows.trace.subscribe(listener)

    def events(self, limit: int = MOST_WAITING) -> EventStream:
        """Return an async iterator over the events from now on. It ends when the engine is closed.

            async with engine.events() as events:
                async for event in events:
                    ...

        Without `async with`, call `aclose` when you stop early. Any number of iterators may be open, and none delays
        anything or another. Iterate in the event loop of the engine. Cancelling the wait for an event loses none.

        Args:
            limit: how many events may wait here. If there are more, the oldest are dropped, and `EventsMissed` says how
                many, with the session to continue from.

        Raises:
            ValueError: the limit is less than 1.
        """
        return self._flows.streams.open(limit)
