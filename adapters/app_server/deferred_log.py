"""The log of a program that answers on standard output: on standard error, and imported with the first line."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from authstate.engine.model.events import Event

LOG_DELAY = 0.1  # seconds, so that the import of the logs delays no first answer


class DeferredLog:
    """Writes warnings and failures to stderr. Imports the logging code when there is one."""

    def __init__(self) -> None:
        self._held: list[Event] = []
        self._write: Callable[[Event], None] | None = None

    def on_event(self, event: "Event") -> None:
        """Take an event. It is written a moment later."""
        from authstate.engine.model.events import RefreshFailed, Warned

        if isinstance(event, Warned | RefreshFailed):
            self._held.append(event)
            asyncio.get_running_loop().call_later(LOG_DELAY, self.flush)

    def warn(self, code: str, message: str) -> None:
        """Log a warning. `code` is stable; `message` is for a person and holds no secret."""
        from authstate.engine.model.events import Warned

        self.on_event(Warned(code, message))

    def on_loop_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log a fault of this program that nobody caught."""
        self._configure()
        loop.default_exception_handler(context)

    def subscribe(self, listener: "Callable[[Event], None]") -> Callable[[], None]:
        """Take the writer from `log_events`, which sees this object as an engine."""
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
            from authstate.adapters.logs.event_lines import log_events
            from authstate.adapters.logs.program import configure_program_logs

            configure_program_logs()
            log_events(self)
