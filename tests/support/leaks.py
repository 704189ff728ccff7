"""Checks that errors and objects show no secret to a crash report, a log, a pickle or a debugger."""

import json
import pickle
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import httpx2
import msgspec
from structlog.tracebacks import ExceptionDictTransformer
from support.paths import TESTS

CANARY = "CaNaRy"
"""A text that every secret of these tests contains."""

_LIMIT = 1_000_000
_OF_HTTPX = (httpx.Request, httpx.Response, httpx2.Request, httpx2.Response)


def reachable_objects(error: BaseException) -> Iterator[tuple[str, object]]:
    """Each object that a crash report can reach from an error, with the path to it. Frames of tests are left out."""
    stack: list[tuple[str, object]] = [("error", error)]
    known: dict[int, object] = {}
    while stack:
        path, thing = stack.pop()
        if id(thing) in known:
            continue
        known[id(thing)] = thing
        yield path, thing
        if isinstance(thing, BaseException):
            stack += [(f"{path}.args", thing.args), (f"{path}.__dict__", vars(thing))]
            stack += [(f"{path}.__context__", thing.__context__), (f"{path}.__cause__", thing.__cause__)]
            for frame, _ in traceback.walk_tb(thing.__traceback__):
                if not _is_of_a_test(frame):
                    stack += [(f"{path}: {frame.f_code.co_name}.{name}", one) for name, one in frame.f_locals.items()]
        elif isinstance(thing, Mapping):
            stack += [(f"{path}[{key!r:.20}]", one) for key, one in thing.items()]
        elif isinstance(thing, list | tuple | set):
            stack += [(f"{path}[]", one) for one in thing]


def _is_of_a_test(frame: FrameType) -> bool:
    return Path(frame.f_code.co_filename).is_relative_to(TESTS)


def assert_clean(error: BaseException, *, may_name_the_request: bool = False) -> None:
    """Check that a crash report of an error shows no secret.

    Args:
        error: what was raised.
        may_name_the_request: whether an httpx request or response may be reachable, as it is from httpx's own errors.

    Raises:
        AssertionError: a secret, or such a request, can be reached.
    """
    for path, thing in reachable_objects(error):
        is_of_httpx = isinstance(thing, _OF_HTTPX) and not may_name_the_request
        assert not is_of_httpx, f"{path} is a {type(thing).__name__}"
        assert CANARY not in repr(thing), f"{path} shows a secret"
    assert CANARY not in "".join(traceback.format_exception(error))
    assert CANARY not in dumped(error)


def dumped(error: BaseException) -> str:
    """The error with the local variables of its frames, as structlog writes it to a JSON log."""
    dump = ExceptionDictTransformer(
        show_locals=True, locals_max_length=_LIMIT, locals_max_string=_LIMIT, use_rich=False
    )
    chain: list[dict[str, Any]] = dump((type(error), error, error.__traceback__))
    for one in chain:
        one["frames"] = [frame for frame in one["frames"] if not Path(frame["filename"]).is_relative_to(TESTS)]
    return json.dumps(chain)


def assert_hidden(thing: object) -> None:
    """Check an object, its members and its pickle. Raises AssertionError if one of them shows a secret."""
    members = {name: getattr(thing, name) for name in _names(thing) if hasattr(thing, name)}
    for shown in (repr(thing), str(thing), *(f"{name}={value!r}" for name, value in members.items())):
        assert CANARY not in shown, f"{type(thing).__name__} shows a secret: {shown.partition('=')[0]:.40}"
    try:
        pickled = pickle.dumps(thing)
    except Exception:  # what cannot be pickled shows nothing
        return
    assert CANARY.encode() not in pickled, f"the pickle of a {type(thing).__name__} shows a secret"


def _names(thing: object) -> list[str]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    fields = list(thing.__struct_fields__) if isinstance(thing, msgspec.Struct) else []
    return [*vars(thing), *slots, *fields] if hasattr(thing, "__dict__") else [*slots, *fields]
