"""Data that holds secrets as plain text, because the wire has them so, and faults that have such data in hand."""

import traceback
from typing import Any, NoReturn

import msgspec


class Confidential(msgspec.Struct, frozen=True):
    """A struct whose repr shows none of its members: logs and crash reports print the reprs of local variables.

    It is not pickled either, because a pickle holds its members in plain text.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not pickled: it holds secrets")


def place_of(fault: BaseException) -> str:
    """The class of a fault and where it happened, for a report without its traceback, whose frames hold secrets."""
    place = type(fault).__name__
    for frame, line in traceback.walk_tb(fault.__traceback__):
        place = f"{type(fault).__name__} in {frame.f_globals.get('__name__')}, line {line}"
    return place


def without_frames(fault: Exception) -> RuntimeError:
    """What to raise in the place of a fault whose frames hold secrets. Raise it outside of the `except` clause."""
    return RuntimeError(f"a fault of this program: {place_of(fault)}")
