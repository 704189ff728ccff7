"""Refuses an argument of another type where it is given: it would fail later, and elsewhere.

A message names the type of what was given, and never its value, which may be a key or a token.
"""

from collections.abc import Iterable


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
    if isinstance(given, type) or not all(callable(getattr(given, method, None)) for method in methods):
        raise wrong_type(given, name, wanted)


def wrong_type(given: object, name: str, wanted: str) -> TypeError:
    """Return the error for an argument of a wrong type."""
    kind = f"the class {given.__name__}" if isinstance(given, type) else f"of the type {type(given).__name__}"
    return TypeError(f"{name} is {kind}: give {wanted}")
