"""config.toml, the administrator's files and the `-c` overrides, in codex's order, and which of them says what.

What the keys mean is in config.py. Where there is no file and no override, nothing that can parse TOML is imported.
tomli reads TOML 1.1, as codex does; the standard library's parser of Python 3.11 to 3.14 stops at an inline table over
several lines.
"""

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from authstate.adapters.config.home import ConfigError

SYSTEM_FOLDER = None if os.name == "nt" else "/etc/codex"
"""Where the administrator's files are. What codex reads on Windows was not measured, and is not read here."""
SYSTEM_FILES = ("config.toml", "managed_config.toml", "requirements.toml")
_SYSTEM_CONFIG, MANAGED, REQUIRED = SYSTEM_FILES
"""Of the administrator's files, those that win over `-c`. All releases obey the first. Releases from 0.150.0 on obey
the second, too, which wins over the first."""

OVERRIDE = "-c"
"""Who decides a setting that the command line says."""

_Choice = TypeVar("_Choice", bound=StrEnum)
_Default = TypeVar("_Default")
_REQUIRED_SETTINGS = ("cli_auth_credentials_store", "chatgpt_base_url", "model_provider", "model_providers")
_LARGEST = 4 * 1024 * 1024  # bytes
_REPAIR = "repair the file, or move it away"


class Layers(msgspec.Struct, frozen=True):
    """What all the files and overrides say."""

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
        overrides: codex's `-c KEY=VALUE`: KEY with dots, VALUE in TOML, or a plain string where it is no TOML.
        system: the administrator's folder; None where there is none.

    Raises:
        ConfigError: a file cannot be read or parsed, or an override is no KEY=VALUE.
    """
    path = os.path.join(home, "config.toml")
    files = [path] if system is None else [os.path.join(system, _SYSTEM_CONFIG), path]
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


def read_system_table(folder: str | None, name: str) -> tuple[str, dict[str, Any]] | None:
    """The path of one of the administrator's files and what it says; None where there is none. Raises ConfigError."""
    if folder is None:
        return None
    path = os.path.join(folder, name)
    table = read_table(path)
    return None if table is None else (path, table)


def read_table(path: str) -> dict[str, Any] | None:
    """What a TOML file says; None where there is none.

    Raises:
        ConfigError: it cannot be read or parsed.
    """
    text = read_text(path)
    return None if text is None else _parse(text, path)


class EffectiveSetting(msgspec.Struct, frozen=True, rename="camel"):
    """A setting as it counts, and who decides it."""

    key: str
    value: object
    """Without secrets."""
    decided_by: str | None
    """A path, or `-c`. None: nobody, it is the default."""


class Settings:
    """The settings of several files and overrides, each on top of the ones before, and where each key was said.

    Args:
        path: the file that a message names where nobody said a key.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._table: dict[str, Any] = {}
        self._origins: dict[tuple[str, ...], str] = {}
        """Who said each value that is no table, and each empty table."""

    def merge(self, path: str, table: dict[str, Any]) -> None:
        """Put a file on top: a table is merged with the one before, another value takes its place."""
        _merge(self._table, table)
        self._note((), table, path)

    def override(self, text: str) -> None:
        """Put one `KEY=VALUE` on top. Raises ConfigError."""
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
        """The value, None where it is missing. Raises ConfigError where a table is expected and another thing found."""
        value: Any = self._table
        for depth, key in enumerate(keys):
            if not isinstance(value, dict):
                raise self.fault(keys[:depth], "must be a table")
            if key not in value:
                return None
            value = value[key]
        return value

    def choice(self, key: str, kind: type[_Choice], default: _Default) -> _Choice | _Default:
        """The value as one of a few words. Raises ConfigError where it is none of them."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or value not in kind._value2member_map_:
            raise self.fault((key,), "must be one of " + ", ".join(f'"{choice}"' for choice in kind))
        return kind(value)

    def origin(self, *keys: str) -> str | None:
        """Who said the value: a path, or `-c`. None where it is missing."""
        return self._origins.get(keys) or next(
            (who for said, who in self._origins.items() if said[: len(keys)] == keys), None
        )

    def fault(self, keys: tuple[str, ...], must: str) -> ConfigError:
        """The error for a key: where it was said, and what it must be."""
        return ConfigError(f"{self.place_of(keys)} {must}".replace(":  ", ": "))

    def place_of(self, keys: tuple[str, ...]) -> str:
        """A key and where it was said, as a message begins."""
        place = self.origin(*keys) or self.path if keys else self.path
        if place == OVERRIDE:
            place = f"the override ({OVERRIDE})"
        return f"{place}: {'.'.join(keys)}"

    def _note(self, keys: tuple[str, ...], value: object, who: str) -> None:
        """Remember who said a value, or each value of a table."""
        if isinstance(value, dict) and value:
            self._origins.pop(keys, None)
            for key, inner in value.items():
                self._note((*keys, key), inner, who)
        elif keys and not (isinstance(value, dict) and self.get(*keys)):
            self._forget(keys)
            self._origins[keys] = who

    def _forget(self, keys: tuple[str, ...]) -> None:
        """What was said here, above it or below it is replaced."""
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


def read_text(path: str) -> str | None:
    """The text of the file, None when there is none. Raises ConfigError where it cannot be read."""
    from authstate.adapters.io.files import read_regular_file

    try:
        data = read_regular_file(path, _LARGEST + 1)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise ConfigError(f"cannot read {path}: set CODEX_HOME to a folder: a part of this path is a file") from None
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        what = "give this user read access to it and to its folder" if isinstance(error, PermissionError) else _REPAIR
        raise ConfigError(f"cannot read {path}: {why}: {what}") from None
    if len(data) > _LARGEST:
        raise ConfigError(f"{path} is larger than {_LARGEST} bytes: that is no configuration")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is no UTF-8 text: save the file as UTF-8") from None


def _parse(text: str, path: str) -> dict[str, Any]:
    import tomli

    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{path} is no TOML: {error.msg} ({place})") from None
    except RecursionError:
        raise ConfigError(f"{path} is no configuration: it is nested too deeply") from None
