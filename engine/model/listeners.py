"""Who hears of the engine's events."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from authstate.engine.model.events import Event, Warned

Listener = Callable[[Event], None]


class Listeners:
    """Delivers events in order, in the task that caused them. A listener must not block."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on. Returns what ends it, any number of times."""
        self._listeners.append(listener)

        def end() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return end

    def emit(self, event: Event) -> None:
        """Tell everybody. What a listener raises goes to the event loop's exception handler, and the others hear on."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:
                context = {"message": "a listener of the auth engine failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def warn(self, code: str, message: str) -> None:
        """Tell everybody what a log should hold."""
        self.emit(Warned(code, message))
