"""The events of all engines of a broker, each with the id of its account."""

from collections.abc import Callable
from functools import partial

from authstate.engine.engine import AuthEngine
from authstate.engine.model.events import Event, Subscriptions, ensure_plain

AccountListener = Callable[[str, Event], None]
"""Called with the id of an account and an event of its engine. It is a plain function and must not block."""


class AccountEvents:
    """Calls every listener with every event of every engine, in the task that caused it."""

    def __init__(self) -> None:
        self._events: Subscriptions[tuple[str, Event]] = Subscriptions()

    def subscribe(self, listener: AccountListener) -> Callable[[], None]:
        """Call `listener` with every event from now on. Returns a function that ends this; it may be called again.

        Raises:
            TypeError: the listener is a coroutine function.
        """
        ensure_plain(listener)
        return self._events.subscribe(lambda told: listener(*told))

    def follow(self, account: str, engine: AuthEngine) -> None:
        """Pass on the events of an engine, as long as there is that engine."""
        engine.subscribe(partial(self.emit, account))

    def emit(self, account: str, event: Event) -> None:
        """Call every listener. The event loop's exception handler gets what one raises; the others are still called."""
        self._events.emit((account, event))
