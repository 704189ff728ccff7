"""What people give `open_engine` and `load_config` by mistake, and what the error says then."""

from pathlib import Path
from typing import Any

import pytest

from authstate import ConfigError, Environment, load_config, open_engine


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the user: a login there must not be used in place of another one."""
    home = tmp_path / "user"
    (home / ".codex").mkdir(parents=True)
    (home / ".codex" / "config.toml").write_text('forced_login_method = "api"')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("CODEX_HOME", raising=False)
    return home


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_in_place_of_the_config(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"config is of the type \w+: give .*open_engine\(home=folder\)"):
        open_engine(kind(tmp_path))


def test_a_mapping_in_place_of_the_environment(tmp_path: Path) -> None:
    mapping: Any = {"CODEX_HOME": str(tmp_path)}
    with pytest.raises(TypeError, match=r"environment is of the type dict: give .*Environment\.read\(mapping\)"):
        open_engine(environment=mapping)
    assert open_engine(environment=Environment.read(mapping)) is not None


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_home_is_not_that_of_the_user(empty: str) -> None:
    with pytest.raises(ConfigError, match="home is empty: name the folder"):
        open_engine(home=empty)


def test_the_error_for_a_home_names_the_argument_and_not_a_variable(tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text("{}")
    for home, says in (("nobody", "home is .*nobody, and there is no such folder"), ("auth.json", "is not a folder")):
        with pytest.raises(ConfigError, match=says) as refused:
            open_engine(home=tmp_path / home)
        assert "CODEX_HOME" not in str(refused.value)


def test_a_config_of_a_folder_as_text_or_below_the_home_of_the_user(own_home: Path) -> None:
    configured = load_config(own_home / ".codex")
    assert configured.policy.forced_login_method == "api"
    assert load_config(str(own_home / ".codex")) == load_config("~/.codex") == configured


def test_one_text_in_place_of_the_overrides() -> None:
    with pytest.raises(TypeError, match=r"overrides is of the type str: give a list"):
        load_config(overrides="forced_login_method=api")
