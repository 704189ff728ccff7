"""Redaction to put where log lines pass: a processor for structlog, a filter and a formatter for `logging`."""

import copy
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, cast

from authstate.adapters.logs.redaction import redact, redact_text

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OF_STRUCTLOG: Final = frozenset({"_logger", "_name"})  # objects that its ProcessorFormatter needs
_PLAIN: Final = logging.Formatter()


def redact_event(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact a log entry: a processor for structlog.

    Put it after the processors that add members and format exceptions as text, and before the renderer.

    Args:
        logger: not used; structlog passes it.
        method: not used; structlog passes it.
        event: the entry. It is not changed.

    Returns:
        A new entry: text without secrets, and anything but text, numbers and containers as its redacted `repr`.
    """
    redacted: dict[str, Any] = redact(event)
    return redacted


class RedactingFilter(logging.Filter):
    """Redacts the records that pass a handler: the message with its arguments, the exception, the stack and all members
    that were given as `extra`. Every record passes.

        handler.addFilter(RedactingFilter())

    From Python 3.12 on, the handler gets a redacted copy, and other handlers see the record as it was. In Python 3.11 a
    filter cannot replace a record, so the record itself is changed, and handlers that come later see the redacted
    one; `RedactingFormatter` leaves the record alone there, too.

    The redacted record holds the exception as text (`exc_text`) and no exception object, whose frames may hold secrets.
    """

    def filter(self, record: logging.LogRecord) -> Any:
        """See `logging.Filter`. Returns the redacted record, or true in Python 3.11."""
        if not super().filter(record):
            return False
        if sys.version_info >= (3, 12):
            return redacted_record(record)
        vars(record).update(vars(redacted_record(record)))
        return True


class RedactingFormatter(logging.Formatter):
    """Formats a redacted copy of each record with another formatter. The record does not change.

        handler.setFormatter(RedactingFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s")))

    Args:
        formatter: makes the line. By default one that prints the message.
    """

    def __init__(self, formatter: logging.Formatter | None = None) -> None:
        super().__init__()
        self._formatter = formatter or _PLAIN

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return self._formatter.format(redacted_record(record))


def redacted_record(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy of a record without secrets."""
    redacted = copy.copy(record)
    message: object = record.msg
    if isinstance(message, Mapping):  # of structlog, for its ProcessorFormatter
        redacted.msg = redact(cast("Mapping[object, object]", message))
        redacted.args = tuple(redact(list(record.args or ())))
        kept = _STANDARD | _OF_STRUCTLOG
    else:
        redacted.msg, redacted.args = redact_text(_message_of(record)), None
        kept = _STANDARD
    if record.exc_info and not record.exc_text:
        redacted.exc_text = _PLAIN.formatException(record.exc_info)
    if "message" in vars(record):  # left by a formatter
        redacted.message = redact_text(record.message)
    redacted.exc_info = None
    redacted.exc_text = redact_text(redacted.exc_text) if redacted.exc_text else None
    redacted.stack_info = redact_text(record.stack_info) if record.stack_info else None
    extra = {name: value for name, value in vars(record).items() if name not in kept}
    vars(redacted).update(redact(extra))
    return redacted


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # as for arguments that do not fit: `logging` would print all of them
        return f"{record.msg} {record.args!r}"
