"""Structs that hold secrets as plain text, and errors whose tracebacks could show such structs."""

import traceback
from typing import Any, NoReturn

import msgspec


class Confidential(msgspec.Struct, frozen=True):
    """A struct whose repr hides its members, because logs and crash reports print the reprs of local variables.

    It cannot be pickled, because a pickle holds the members as plain text.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not pickled: it holds secrets")


def place_of(fault: BaseException) -> str:
    """Return the class of an error and the line that raised it, for reports without a traceback."""
    place = type(fault).__name__
    for frame, line in traceback.walk_tb(fault.__traceback__):
        place = f"{type(fault).__name__} in {frame.f_globals.get('__name__')}, line {line}"
    return place


def without_frames(fault: Exception) -> RuntimeError:
    """Return an error to raise instead of one whose frames hold secrets. Raise it outside of the `except` clause."""
    return RuntimeError(f"a fault of this program: {place_of(fault)}")
