"""Puts `adapters/package/` into a wheel as the package `authstate`.

`sources` in pyproject.toml cannot: of two folders that fit, hatchling takes the outer one. An editable installation
needs no copy, because `.src` leads to the files themselves.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PackageHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling before it builds a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folder, unless the wheel is one of an editable installation."""
        if version != "editable":
            build_data["force_include"]["adapters/package"] = "authstate"
