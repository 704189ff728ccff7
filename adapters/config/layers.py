"""Merges config.toml, the administrator's files and the `-c` overrides in codex's order, and records who set each key.

The meaning of the keys is in `settings.py`. config_files.py reads the files.
"""

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from authstate.adapters.config.config_files import (
    MANAGED,
    REQUIRED,
    SYSTEM_CONFIG,
    SYSTEM_FOLDER,
    read_system_table,
    read_table,
)
from authstate.adapters.config.home import ConfigError

OVERRIDE = "-c"
"""The origin of a setting of the command line."""

_Choice = TypeVar("_Choice", bound=StrEnum)
_Default = TypeVar("_Default")
_REQUIRED_SETTINGS = ("cli_auth_credentials_store", "chatgpt_base_url", "model_provider", "model_providers")


class Layers(msgspec.Struct, frozen=True):
    """The merged settings of all files and overrides."""

    settings: "Settings"
    requirements: "Settings | None"
    """requirements.toml alone, which also restricts the policy; None where there is none."""


def read_layers(home: Path, overrides: Sequence[str] = (), system: str | None = SYSTEM_FOLDER) -> Layers | None:
    """Read `home`/config.toml and the administrator's files, each of which may be missing. None: nothing is said.

    From the weakest to the strongest, as measured with codex 0.93.0 and 0.169.0: `system`/config.toml,
    `home`/config.toml, the overrides, `system`/managed_config.toml, and what `system`/requirements.toml says of a few
    keys. (That file counts from 0.150.0 on for the store and the backend, from 0.169.0 on for the model provider.)

    Args:
        home: the folder.
        overrides: codex's `-c KEY=VALUE`: KEY with dots, VALUE in TOML, or a plain string if it is not valid TOML.
        system: the administrator's folder; None where there is none.

    Raises:
        ConfigError: a file cannot be read or parsed, or an override is no KEY=VALUE.
    """
    path = os.path.join(home, "config.toml")
    files = [path] if system is None else [os.path.join(system, SYSTEM_CONFIG), path]
    tables = [(file, read_table(file)) for file in files]
    managed, required = (read_system_table(system, name) for name in (MANAGED, REQUIRED))
    if not overrides and not managed and not required and all(table is None for _, table in tables):
        return None
    settings = Settings(path)
    for file, table in tables:
        if table is not None:
            settings.merge(file, table)
    for override in overrides:
        settings.override(override)
    if managed:
        settings.merge(*managed)
    requirements = None
    if required:
        file, table = required
        requirements = Settings(file)
        requirements.merge(file, table)
        settings.merge(file, {key: value for key, value in table.items() if key in _REQUIRED_SETTINGS})
    return Layers(settings, requirements)


class EffectiveSetting(msgspec.Struct, frozen=True, rename="camel"):
    """The value of a setting that takes effect, and where it was set."""

    key: str
    value: object
    """Without secrets."""
    decided_by: str | None
    """A path, the name of an environment variable, or `-c`. None for a default value."""


class Settings:
    """The settings of several files and overrides, later ones winning, and where each key was set.

    Args:
        path: the file that a message names for a key that was not set.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._table: dict[str, Any] = {}
        self._origins: dict[tuple[str, ...], str] = {}
        """Where each value was set: those that are not tables, and empty tables."""

    def merge(self, path: str, table: dict[str, Any]) -> None:
        """Apply a file: merge its tables into the present ones, and replace other values."""
        _merge(self._table, table)
        self._note((), table, path)

    def override(self, text: str) -> None:
        """Apply one `KEY=VALUE`. Raises ConfigError."""
        name, equals, value = text.partition("=")
        keys = tuple(part.strip() for part in name.split("."))
        if not equals or not all(keys):
            raise ConfigError("an override (-c) must be KEY=VALUE, where KEY may have dots: " + repr(name[:80]))
        table = self._table
        for key in keys[:-1]:
            inner = table.get(key)
            if not isinstance(inner, dict):
                inner = table[key] = {}
            table = inner
        table[keys[-1]] = found = _override_value(value)
        self._forget(keys)
        self._note(keys, found, OVERRIDE)

    def get(self, *keys: str) -> Any:
        """Return a value, None if it is not set. Raises ConfigError if a parent of the key is not a table."""
        value: Any = self._table
        for depth, key in enumerate(keys):
            if not isinstance(value, dict):
                raise self.fault(keys[:depth], "must be a table")
            if key not in value:
                return None
            value = value[key]
        return value

    def choice(self, key: str, kind: type[_Choice], default: _Default) -> _Choice | _Default:
        """Return a value as a member of an enumeration. Raises ConfigError if it is not one."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or value not in kind._value2member_map_:
            raise self.fault((key,), "must be one of " + ", ".join(f'"{choice}"' for choice in kind))
        return kind(value)

    def origin(self, *keys: str) -> str | None:
        """Return where a value was set: a path, or `-c`. None if it is not set."""
        return self._origins.get(keys) or next(
            (who for said, who in self._origins.items() if said[: len(keys)] == keys), None
        )

    def fault(self, keys: tuple[str, ...], must: str) -> ConfigError:
        """Return the error for a key: where it was set, and what it must be."""
        return ConfigError(f"{self.place_of(keys)} {must}".replace(":  ", ": "))

    def place_of(self, keys: tuple[str, ...]) -> str:
        """Return a key and where it was set, as the beginning of a message."""
        place = self.origin(*keys) or self.path if keys else self.path
        if place == OVERRIDE:
            place = f"the override ({OVERRIDE})"
        return f"{place}: {'.'.join(keys)}"

    def _note(self, keys: tuple[str, ...], value: object, who: str) -> None:
        """Record where a value, or each value of a table, was set."""
        if isinstance(value, dict) and value:
            self._origins.pop(keys, None)
            for key, inner in value.items():
                self._note((*keys, key), inner, who)
        elif keys and not (isinstance(value, dict) and self.get(*keys)):
            self._forget(keys)
            self._origins[keys] = who

    def _forget(self, keys: tuple[str, ...]) -> None:
        """Delete the recorded origins of a key, of its parents and of its children."""
        for said in [said for said in self._origins if said[: len(keys)] == keys or keys[: len(said)] == said]:
            del self._origins[said]


def _merge(table: dict[str, Any], top: dict[str, Any]) -> None:
    for key, value in top.items():
        below = table.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _merge(below, value)
        else:
            table[key] = value


def _override_value(text: str) -> Any:
    import tomli

    try:
        return tomli.loads(f"value = {text.strip()}")["value"]
    except (tomli.TOMLDecodeError, RecursionError):
        return text.strip().strip("\"'")
