"""CODEX_HOME of a command under `authstate run --account`: it names the account, and leads to the home of the vault."""

from pathlib import Path

import pytest

from authstate.adapters.config import Environment, load_config
from authstate.adapters.config.home import account_of_home, find_home
from authstate.adapters.config.settings import read_config


@pytest.fixture
def of_work(tmp_path: Path) -> Path:
    """The home of an account, in a home that has a vault."""
    folder = tmp_path / "home" / "authstate" / "homes" / "0123abcd"
    folder.mkdir(parents=True)
    (tmp_path / "home" / "authstate" / "accounts.json").write_text("{}")
    return folder


@pytest.mark.parametrize("form", ["{}", "{}/", " {} ", "{}/../0123abcd"])
def test_it_leads_to_the_home_with_the_vault(of_work: Path, form: str) -> None:
    environ = {"CODEX_HOME": form.format(of_work)}
    assert account_of_home(environ) == "0123abcd"
    assert find_home(environ) == of_work.parents[2]
    assert Environment.read(environ).home == of_work.parents[2]


def test_a_link_to_it(of_work: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(of_work)
    environ = {"CODEX_HOME": str(tmp_path / "link")}
    assert (account_of_home(environ), find_home(environ)) == ("0123abcd", of_work.parents[2])


def test_below_the_folder_of_the_user(of_work: Path, tmp_path: Path) -> None:
    environ = {"CODEX_HOME": "~/home/authstate/homes/0123abcd", "HOME": str(tmp_path)}
    assert (account_of_home(environ), find_home(environ)) == ("0123abcd", of_work.parents[2])


@pytest.mark.parametrize("what", ["no vault", "above", "below", "another name", "missing", "not set"])
def test_another_folder_is_a_home_of_its_own(of_work: Path, what: str) -> None:
    if what == "no vault":
        (of_work.parents[1] / "accounts.json").unlink()
    (of_work / "below").mkdir()
    other = of_work.parents[1] / "places" / "0123abcd"
    other.mkdir(parents=True)
    folder = {
        "above": of_work.parent,
        "below": of_work / "below",
        "another name": other,
        "missing": of_work.parent / "x",
    }.get(what, of_work)
    environ = {} if what == "not set" else {"CODEX_HOME": str(folder)}
    assert account_of_home(environ) is None
    if what not in ("missing", "not set"):
        assert find_home(environ) == folder


def test_the_account_of_the_home_is_the_one_in_use_if_none_is_named(of_work: Path, tmp_path: Path) -> None:
    home = of_work.parents[2]
    environ = {"CODEX_HOME": str(of_work)}
    config, decided = read_config(home, system=None, environ=environ)
    assert config.account == "0123abcd"
    assert [(one.value, one.decided_by) for one in decided] == [("0123abcd", "CODEX_HOME")]
    (home / "config.toml").write_text('[authstate]\naccount = "private"\n')
    assert load_config(home, system=None, environ=environ).account == "0123abcd"
    assert load_config(home, system=None, environ={**environ, "AUTHSTATE_ACCOUNT": "home"}).account == "home"
    assert load_config(home, ("authstate.account=other",), system=None, environ=environ).account == "other"
