"""Redaction where one wants it: a structlog processor, a filter and a formatter of `logging`."""

import io
import json
import logging
import sys
import traceback

import pytest
import structlog

from authstate.adapters.logs.redactors import RedactingFilter, RedactingFormatter, redact_event, redacted_record
from authstate.engine.model.secret import Secret
from authstate.testing import make_jwt

CANARY = make_jwt(sub="CaNaRy")
REPLACES = sys.version_info >= (3, 12)
"""Whether a filter can replace a record."""


def record(message: object = "sent %s to %s", *arguments: object, **extra: object) -> logging.LogRecord:
    """A record with a secret in each of its members."""
    try:
        raise ValueError(CANARY)
    except ValueError:
        info = sys.exc_info()
    logger = logging.getLogger("somebody")
    arguments = arguments or (CANARY, {"token": "short"})
    stack = f"Stack of {CANARY}"
    return logger.makeRecord(logger.name, logging.ERROR, __file__, 1, message, arguments, info, "f", extra, stack)


def shown(one: logging.LogRecord) -> str:
    """Everything that a handler could take from a record."""
    parts = [logging.Formatter("%(message)s").format(one), repr(vars(one))]
    if one.exc_info:
        parts += traceback.format_exception(*one.exc_info)
    return "".join(parts)


def test_every_member_of_a_record_is_redacted_in_a_copy() -> None:
    extra = {"refresh_token": "short", "deep": {"list": [Secret("short"), CANARY]}, "count": 3, "path": "/home/person"}
    original = record(**extra)
    before = dict(vars(original))
    redacted = redacted_record(original)
    assert CANARY not in shown(redacted) and "short" not in shown(redacted)
    assert "ValueError" in shown(redacted) and "sent " in shown(redacted)
    assert (vars(redacted)["count"], vars(redacted)["path"]) == (3, "/home/person")
    assert vars(original) == before
    assert original.exc_info is not None and CANARY in str(original.exc_info[1])


def test_a_text_that_another_handler_cached_is_redacted_too() -> None:
    original = record()
    logging.Formatter("%(message)s").format(original)
    assert CANARY in (original.exc_text or "") and CANARY in original.message
    assert CANARY not in shown(redacted_record(original))


def test_arguments_that_do_not_fit_are_redacted() -> None:
    redacted = redacted_record(record("one %s", CANARY, CANARY))
    assert CANARY not in shown(redacted) and "one %s" in redacted.getMessage()


def test_a_percent_sign_is_no_format() -> None:
    assert redacted_record(record("100 %", "x")).getMessage() == "100 % ('x',)"
    logger = logging.getLogger("somebody")
    plain = logger.makeRecord("somebody", logging.INFO, __file__, 1, "100 % of %s", (), None)
    assert redacted_record(plain).getMessage() == "100 % of %s"


def test_a_filter_of_one_handler_leaves_the_others_alone_where_python_can() -> None:
    logger = logging.getLogger("somebody")
    streams = [io.StringIO(), io.StringIO(), io.StringIO()]
    handlers = [logging.StreamHandler(stream) for stream in streams]
    handlers[1].addFilter(RedactingFilter())
    logger.handlers[:], logger.propagate = handlers, False
    try:
        logger.warning("sent %s", CANARY, extra={"token": "short"})
    finally:
        logger.handlers[:], logger.propagate = [], True
    assert CANARY in streams[0].getvalue()
    assert CANARY not in streams[1].getvalue() and "sent " in streams[1].getvalue()
    assert (CANARY in streams[2].getvalue()) is REPLACES


def test_a_filter_passes_what_its_name_says_like_any_filter() -> None:
    assert not RedactingFilter("other").filter(record())
    assert RedactingFilter("somebody").filter(record())


def test_a_formatter_leaves_the_record_alone_everywhere() -> None:
    original = record()
    before = dict(vars(original))
    line = RedactingFormatter(logging.Formatter("%(name)s: %(message)s")).format(original)
    assert line.startswith("somebody: sent ") and CANARY not in line
    assert vars(original) == before
    assert CANARY not in RedactingFormatter().format(original)


def test_a_processor_of_structlog_redacts_an_entry() -> None:
    stream = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[structlog.processors.format_exc_info, redact_event, structlog.processors.JSONRenderer()],
    )
    try:
        raise ValueError(CANARY)
    except ValueError:
        logger.error("failed", token="short", text=CANARY, exc_info=True)
    assert CANARY not in stream.getvalue() and "short" not in stream.getvalue()
    assert json.loads(stream.getvalue())["event"] == "failed"


@pytest.mark.parametrize("redacts", [RedactingFilter, RedactingFormatter])
def test_structlogs_own_formatter_still_works(redacts: type) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    formatter: logging.Formatter = structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer())
    if redacts is RedactingFilter:
        handler.addFilter(RedactingFilter())
        handler.setFormatter(formatter)
    else:
        handler.setFormatter(RedactingFormatter(formatter))
    below = logging.Logger("somebody")
    below.addHandler(handler)
    logger = structlog.wrap_logger(
        below,
        processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    logger.warning("sent", token="short", text=CANARY)
    entry = json.loads(stream.getvalue())
    assert entry == {"event": "sent", "token": "[redacted]", "text": "[redacted]"}
