"""Delivers the engine's events to its listeners."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from authstate.engine.model.events import Event, Warned

Listener = Callable[[Event], None]


class Listeners:
    """Calls every listener with every event, in order, in the task that caused it. A listener must not block."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on. Returns a function that ends this; it may be called again."""
        self._listeners.append(listener)

        def end() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return end

    def emit(self, event: Event) -> None:
        """Call every listener. The event loop's exception handler gets what one raises; the others are still called."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:
                context = {"message": "a listener of the auth engine failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def warn(self, code: str, message: str) -> None:
        """Emit a `Warned` event."""
        self.emit(Warned(code, message))
