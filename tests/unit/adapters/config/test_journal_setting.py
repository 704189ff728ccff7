"""Whether a home keeps a journal, and how large it may be."""

from pathlib import Path

import pytest

from authstate.adapters.config.home import ConfigError
from authstate.adapters.config.journal_setting import DEFAULT_SIZE
from authstate.adapters.config.settings import read_config


def size_of(home: Path, *overrides: str, file: str = "", variable: str = "") -> tuple[int, str | None]:
    """The size, and what decides it."""
    if file:
        (home / "config.toml").write_text(file)
    config, settings = read_config(home, overrides, None, {"AUTHSTATE_JOURNAL": variable} if variable else {})
    said = [setting.decided_by for setting in settings if setting.key == "authstate.journal"]
    return config.journal_size, (said or [None])[0]


def test_by_default_there_is_one(tmp_path: Path) -> None:
    assert size_of(tmp_path) == (DEFAULT_SIZE, None)
    assert size_of(tmp_path, "forced_login_method=chatgpt") == (DEFAULT_SIZE, None)


@pytest.mark.parametrize(
    ("value", "size"),
    [('"on"', DEFAULT_SIZE), ('"off"', 0), ('"OFF"', 0), ("64", 65536), ("65536", 64 * 1024 * 1024), ('"256"', 262144)],
)
def test_a_value_means_a_size(value: str, size: int, tmp_path: Path) -> None:
    assert size_of(tmp_path, f"authstate.journal={value}") == (size, "-c")


@pytest.mark.parametrize("value", ["63", "65537", "-1", '"maybe"', "true", "1.5", '""', '"999999"', "[1]", '"٣٤٥"'])
def test_another_value_is_an_error(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        size_of(tmp_path, file=f"[authstate]\njournal = {value}\n")
    assert str(error.value) == (
        f'{tmp_path}/config.toml: authstate.journal must be "on", "off", or its size in kilobytes, from 64 to 65536'
    )


def test_an_error_of_the_variable_names_it(tmp_path: Path) -> None:
    for file in ("", 'forced_login_method = "chatgpt"'):
        with pytest.raises(ConfigError, match=r"^the environment variable AUTHSTATE_JOURNAL must be \"on\""):
            size_of(tmp_path, file=file, variable="yes")


def test_what_wins(tmp_path: Path) -> None:
    file = "[authstate]\njournal = 100\n"
    assert size_of(tmp_path, file=file) == (102400, f"{tmp_path}/config.toml")
    assert size_of(tmp_path, file=file, variable="off") == (0, "AUTHSTATE_JOURNAL")
    assert size_of(tmp_path, "authstate.journal=200", file=file, variable="off") == (204800, "-c")
    assert size_of(tmp_path, file=file, variable=" ") == (102400, f"{tmp_path}/config.toml")
