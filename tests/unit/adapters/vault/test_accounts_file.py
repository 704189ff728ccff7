"""The list of accounts: its rules, its nicknames, and what is not a list."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authstate.adapters.config.home import ConfigError
from authstate.adapters.vault.accounts_file import HOME_ACCOUNT, AccountEntry, AccountList, accounts_file
from authstate.engine.model.errors import StoreUnreadable

HOME = AccountEntry(HOME_ACCOUNT, HOME_ACCOUNT)
TWO = AccountList().with_entry(AccountEntry("a1", "work"))


def test_a_home_without_the_file_is_a_vault_of_one_account(tmp_path: Path) -> None:
    assert accounts_file(str(tmp_path)).load() == AccountList((HOME,), HOME_ACCOUNT)


def test_an_account_is_found_by_its_nickname_and_by_its_id() -> None:
    assert TWO.named("work") == TWO.named("a1") == AccountEntry("a1", "work")
    assert TWO.find("nobody") is None
    with pytest.raises(ConfigError, match=r"no account 'nobody'.*shows home, work"):
        TWO.named("nobody")


def test_a_nickname_wins_over_the_id_of_another() -> None:
    accounts = TWO.renamed("a1", "private").with_entry(AccountEntry("b2", "work"))
    assert accounts.named("work").id == "b2"


@pytest.mark.parametrize("name", ["", " ", "a b", "-work", "../x", "a/b", "x" * 65, "\x1b[31m", "wo\nrk", "_x", "."])
def test_a_name_that_a_command_line_or_a_terminal_would_misread_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name") as refused:
        TWO.with_entry(AccountEntry("c3", name))
    assert str(refused.value).isprintable()
    with pytest.raises(ConfigError, match="cannot be the name"):
        TWO.renamed("a1", name)


@pytest.mark.parametrize("name", ["work", "a1", "home"])
def test_a_name_or_an_id_that_is_taken_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is taken"):
        TWO.with_entry(AccountEntry("c3", name))


def test_an_account_may_be_renamed_to_its_own_id_or_name_and_the_home_too() -> None:
    assert TWO.renamed("a1", "work") is TWO
    assert TWO.renamed("a1", "a1").named("a1").name == "a1"
    assert TWO.renamed(HOME_ACCOUNT, "private").named("private").id == HOME_ACCOUNT


def test_the_home_stays_and_takes_the_place_of_a_selected_account_that_goes() -> None:
    selected = TWO.selecting("a1")
    assert selected.selected == "a1"
    assert selected.without("a1") == AccountList()
    assert TWO.without(HOME_ACCOUNT) == TWO
    assert selected.without("unknown") == selected
    with pytest.raises(ConfigError):
        TWO.selecting("unknown")


@given(st.text(max_size=80))
def test_a_name_that_is_free_is_a_valid_one_whatever_was_wished(wish: str) -> None:
    accounts = TWO
    for number in range(3):
        name = accounts.free_name(wish)
        accounts = accounts.with_entry(AccountEntry(f"n{number}", name))
    assert len({entry.name for entry in accounts.entries}) == 5


@pytest.mark.parametrize(
    ("entries", "selected"),
    [
        ([], "home"),
        ([("a1", "work")], "a1"),
        ([("home", "home"), ("../x", "work")], "home"),
        ([("home", "home"), ("", "work")], "home"),
        ([("home", "home"), ("a1", "work"), ("a1", "other")], "home"),
        ([("home", "home"), ("a1", "home")], "home"),
        ([("home", "\x1b[31m")], "home"),
        ([("home", "home")], "a1"),
    ],
)
def test_what_somebody_damaged_by_hand_is_no_list(
    entries: list[tuple[str, str]], selected: str, tmp_path: Path
) -> None:
    text = json.dumps({"entries": [{"id": one, "name": name} for one, name in entries], "selected": selected})
    (tmp_path / "accounts.json").write_text(text)
    with pytest.raises(StoreUnreadable, match=r"accounts\.json cannot be read"):
        accounts_file(str(tmp_path)).load()
