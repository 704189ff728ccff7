"""A disk without threads: a model that runs real files must do the same thing again when its history is replayed."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from unittest import mock

from authstate.adapters.stores.disk import Disk

T = TypeVar("T")


def at_once(_: Disk, steps: Callable[[], T]) -> "asyncio.Future[T]":
    """Run the steps in the event loop's thread, before anything else happens."""
    begun: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    try:
        begun.set_result(steps())
    except Exception as error:
        begun.set_exception(error)
    return begun


class PromptDisk(Disk):
    """A disk whose steps run at once."""

    def begin(self, steps: Callable[[], T]) -> "asyncio.Future[T]":
        return at_once(self, steps)


@contextmanager
def without_threads() -> Iterator[None]:
    """Run the steps of every disk at once."""
    with mock.patch.object(Disk, "begin", at_once):
        yield
