"""Loggers as a program finds them: what a test configures is gone afterwards."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Captured(logging.Handler):
    """Keeps every record, as it came."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def text(self) -> str:
        formatter = logging.Formatter("%(levelname)s:%(name)s:%(message)s")
        return "".join(f"{formatter.format(record)} {vars(record)}\n" for record in self.records)


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """The root logger and `authstate` without handlers and levels of their own."""
    kept = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in _ours()]
    for logger in _ours():
        logger.handlers[:] = []
    logging.getLogger("authstate").setLevel(logging.NOTSET)
    logging.getLogger("authstate").propagate = True
    logging.getLogger().setLevel(logging.WARNING)
    yield
    for logger, handlers, level, propagate in kept:
        logger.handlers[:] = handlers
        logger.propagate = propagate
        logger.setLevel(level)


@contextmanager
def unconfigured() -> Iterator[None]:
    """A root logger without handlers: pytest puts its own there just before a test begins."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers


@pytest.fixture
def captured() -> Captured:
    """Everything that reaches the root logger, whose level is DEBUG."""
    root = logging.getLogger()
    root.setLevel(logging.DEBUG)
    handler = Captured()
    root.addHandler(handler)
    return handler


def _ours() -> tuple[logging.Logger, logging.Logger]:
    return logging.getLogger(), logging.getLogger("authstate")
