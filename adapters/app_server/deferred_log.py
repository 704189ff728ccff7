"""The log of a program that answers on standard output: on standard error, and imported only when there is a line."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authstate.engine.model.events import Event

LOG_DELAY = 0.1  # seconds: the logs are imported when nobody waits for a first answer


class DeferredLog:
    """Writes warnings and failures to stderr, and imports what that takes only when there is one."""

    def __init__(self) -> None:
        self._held: list[Event] = []
        self._write: Callable[[Event], None] | None = None

    def on_event(self, event: "Event") -> None:
        """Take an event. It is written a moment later, when nobody waits."""
        from authstate.engine.model.events import RefreshFailed, Warned

        if isinstance(event, Warned | RefreshFailed):
            self._held.append(event)
            asyncio.get_running_loop().call_later(LOG_DELAY, self.flush)

    def warn(self, code: str, message: str) -> None:
        """Take what is no event of an engine. `code` is stable; `message` is for a person and holds no secret."""
        from authstate.engine.model.events import Warned

        self.on_event(Warned(code, message))

    def on_loop_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take what nobody else caught: a fault of this program."""
        self._configure()
        loop.default_exception_handler(context)

    def subscribe(self, listener: "Callable[[Event], None]") -> Callable[[], None]:
        """What `log_events` sees of us."""
        self._write = listener
        return lambda: None

    def flush(self) -> None:
        """Write what is held."""
        events, self._held = self._held, []
        for event in events:
            self._configure()
            if self._write is not None:
                self._write(event)

    def _configure(self) -> None:
        if self._write is None:
            from authstate.adapters.logs import configure, log_events

            configure()
            log_events(self)
