"""The loggers of authstate: `authstate` of the standard library and those below it, with structlog in front.

A library is silent until the program that uses it configures logging. So `authstate` has a `NullHandler`, nothing is
set on any other logger, and structlog's own configuration is neither used nor changed. structlog is imported with the
first line that somebody will see.
"""

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

TOP: Final = "authstate"
MEMBERS: Final = "authstate"
"""The member of a `logging.LogRecord` that holds the members of a line as a dict. `event` is its name."""
_OUR_CALLERS = 3  # frames between the call of a line and `logging`, all of them structlog's


def library_logger(name: str) -> logging.Logger:
    """Return the logger `authstate.NAME`. Without a configuration, nobody sees its lines."""
    top = logging.getLogger(TOP)
    if not top.handlers:
        top.addHandler(logging.NullHandler())
    return logging.getLogger(f"{TOP}.{name}")


def is_heard(logger: logging.Logger, level: int) -> bool:
    """Whether a line of this level reaches a handler that does something with it."""
    if not logger.isEnabledFor(level):
        return False
    place: logging.Logger | None = logger
    while place is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in place.handlers):
            return True
        place = place.parent if place.propagate else None
    return False


def write_line(name: str, level: str, event: str, members: Mapping[str, object]) -> None:
    """Write a line to `authstate.NAME`, redacted, if anybody will see it.

    Args:
        name: of the logger, below `authstate`.
        level: `debug`, `info`, `warning` or `error`.
        event: the name of what happened.
        members: more about it.
    """
    logger = library_logger(name)
    if is_heard(logger, getattr(logging, level.upper())):
        getattr(_structured(logger), level)(event, **members)


def _structured(logger: logging.Logger) -> Any:
    """Put structlog in front of a logger, with a configuration of its own."""
    import structlog

    from authstate.adapters.logs.redactors import redact_event

    return structlog.wrap_logger(
        logger,
        processors=[structlog.processors.format_exc_info, redact_event, _to_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=False,
    )


def _to_record(logger: object, method: str, members: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, object]]:
    """Make the arguments of `logging`: a message for people, and the members as they are for programs."""
    import structlog

    from authstate.adapters.logs.readable import readable

    shown = {name: value for name, value in members.items() if name != "event"}
    pairs = structlog.processors.LogfmtRenderer()(logger, method, dict(shown))
    message = readable(f"{members['event']} {pairs}" if shown else str(members["event"]))
    return (message,), {"extra": {MEMBERS: dict(members)}, "stacklevel": _OUR_CALLERS}
