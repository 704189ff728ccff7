"""Loads the names of a package when they are used first."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazy_names(package: str, modules: "Mapping[str, str]") -> "tuple[Callable[[str], Any], Callable[[], list[str]]]":
    """Return the functions `__getattr__` and `__dir__` of a package that loads its names late.

    Hide them from type checkers: with a `__getattr__`, every misspelt name would have the type `Any`.

    Args:
        package: the name of the package.
        modules: for each module below `authstate`, its names, separated by spaces.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> "Any":
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"authstate.{homes[name]}"), name)
        setattr(import_module(package), name, value)
        return value

    def names() -> list[str]:
        import sys

        return sorted({*vars(sys.modules[package]), *homes})

    return load, names
