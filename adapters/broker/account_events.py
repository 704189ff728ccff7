"""The events of all engines of a broker, each with the id of its account."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from authstate.engine.engine import AuthEngine
from authstate.engine.model.events import Event

AccountListener = Callable[[str, Event], None]
"""Called with the id of an account and an event of its engine. It must not block."""


class AccountEvents:
    """Calls every listener with every event of every engine, in the task that caused it."""

    def __init__(self) -> None:
        self._listeners: list[AccountListener] = []

    def subscribe(self, listener: AccountListener) -> Callable[[], None]:
        """Call `listener` with every event from now on. Returns a function that ends this; it may be called again."""
        self._listeners.append(listener)

        def end() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return end

    def follow(self, account: str, engine: AuthEngine) -> None:
        """Pass on the events of an engine, as long as there is that engine."""
        engine.subscribe(partial(self.emit, account))

    def emit(self, account: str, event: Event) -> None:
        """Call every listener. The event loop's exception handler gets what one raises; the others are still called."""
        for listener in tuple(self._listeners):
            try:
                listener(account, event)
            except Exception as error:
                context = {"message": "a listener of the broker failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
