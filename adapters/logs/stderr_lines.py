"""authstate's lines on standard error, for those who want them there: `key=value` or JSON.

Standard output belongs to the protocol; nothing here writes to it.
"""

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO, cast

from authstate.adapters.logs.loggers import MEMBERS, TOP, library_logger
from authstate.adapters.logs.readable import readable
from authstate.adapters.logs.redaction import redact_text
from authstate.adapters.logs.redactors import redact_event, redacted_record

LEVELS: Final = ("debug", "info", "warning", "error")
_FIRST: Final = ["timestamp", "level", "event"]


def configure_logs(
    level: str = "warning", *, as_json: bool = False, stream: TextIO | None = None
) -> Callable[[], None]:
    """Write authstate's own lines to a stream, as `key=value` or JSON, and nowhere else.

    It sets the handler, the level and `propagate` of the logger `authstate`. The root logger, the lines of other
    libraries and structlog's configuration stay as they are. A program with a logging configuration of its own does not
    need this: its handlers get authstate's lines without it.

    Args:
        level: the lowest level that is written, one of `LEVELS`.
        as_json: write JSON objects instead of `key=value`.
        stream: where to write. By default, standard error.

    Returns:
        A function that undoes it. Calling this function again replaces what it did before.

    Raises:
        ValueError: the level is unknown.
    """
    if level not in LEVELS:
        raise ValueError(f"there is no log level {level!r}: use one of {', '.join(LEVELS)}")
    logger = library_logger("engine").parent
    assert logger is not None and logger.name == TOP
    for handler in tuple(logger.handlers):
        if isinstance(handler, _LineHandler):
            handler.undo()
    added = _LineHandler(logger, sys.stderr if stream is None else stream)
    added.setFormatter(_LineFormatter(as_json=as_json))
    logger.addHandler(added)
    logger.setLevel(level.upper())
    logger.propagate = False
    return added.undo


class _LineHandler(logging.StreamHandler[TextIO]):
    """Writes authstate's lines, and knows how the logger was before."""

    def __init__(self, logger: logging.Logger, stream: TextIO) -> None:
        super().__init__(stream)
        self._logger = logger
        self._before = (logger.level, logger.propagate)

    def undo(self) -> None:
        """Remove this handler, unless that is done."""
        if self in self._logger.handlers:
            self._logger.removeHandler(self)
            level, self._logger.propagate = self._before
            self._logger.setLevel(level)


class ForeignFormatter(logging.Formatter):
    """Makes lines of records without members: of other libraries, and of authstate's stores."""

    def __init__(self) -> None:
        super().__init__("level=%(levelname)s logger=%(name)s event=%(message)r")

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return readable(redact_text(super().format(redacted_record(record))))


class _LineFormatter(logging.Formatter):
    """Makes the lines of authstate."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json
        self._foreign = ForeignFormatter()

    def format(self, record: logging.LogRecord) -> str:
        members: dict[str, Any] | None = getattr(record, MEMBERS, None)
        if members is None:
            if not self._as_json:
                return self._foreign.format(record)
            redacted = redacted_record(record)
            members = {"logger": record.name, "event": redacted.getMessage()}
            if redacted.exc_text:
                members["exception"] = redacted.exc_text
        import structlog

        created = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        entry = {**members, "level": record.levelname.lower(), "timestamp": created}
        if self._as_json:
            return str(structlog.processors.JSONRenderer()(None, "", redact_event(None, "", entry)))
        render = structlog.processors.LogfmtRenderer(key_order=_FIRST, drop_missing=True)
        return readable(str(render(None, "", cast("dict[str, Any]", redact_event(None, "", entry)))))
