"""Refuses an argument of another type where it is given: it would fail later, and elsewhere.

A message names the type of what was given, and never its value, which may be a key or a token.
"""

from collections.abc import Iterable, Sequence


def ensure_instance(given: object, kind: type | tuple[type, ...], name: str, wanted: str) -> None:
    """Refuse an argument of another class.

    Args:
        given: the argument.
        kind: its class, or several of them.
        name: the name of the argument.
        wanted: what to give instead.

    Raises:
        TypeError: it is no object of the class.
    """
    if not isinstance(given, kind):
        raise wrong_type(given, name, wanted)


def ensure_methods(given: object, methods: Iterable[str], name: str, wanted: str) -> None:
    """Refuse an argument that lacks a method of its Protocol, and a class where an object of it belongs.

    Args:
        given: the argument.
        methods: the names of the methods.
        name: the name of the argument.
        wanted: what to give instead.

    Raises:
        TypeError: a method is missing, or this is a class.
    """
    missing = [method for method in methods if not callable(getattr(given, method, None))]
    if missing or isinstance(given, type):
        raise wrong_type(given, name, wanted, missing)


def wrong_type(given: object, name: str, wanted: str, missing: Sequence[str] = ()) -> TypeError:
    """Return the error for an argument of a wrong type, and for one that lacks methods."""
    kind = f"the class {given.__name__}" if isinstance(given, type) else f"of the type {type(given).__name__}"
    lack = f", which has no method {missing[0]}" if missing else ""
    return TypeError(f"{name} is {kind}{lack}: give {wanted}")
