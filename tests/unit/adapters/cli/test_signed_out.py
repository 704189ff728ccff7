"""What a command says if nobody is signed in to the account that it uses: which account, and how to sign in to it."""

from pathlib import Path

import pytest

from authstate.adapters.cli.exit_status import ExitStatus
from authstate.adapters.cli.main import main
from authstate.adapters.config import StoreMode
from authstate.adapters.vault.vault import Vault

Captured = pytest.CaptureFixture[str]
COMMANDS = [["token"], ["lease", "new", "--json"]]


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


@pytest.mark.parametrize("words", [*COMMANDS, ["broker", "adopt"]])
def test_the_home_of_one_account(words: list[str], capsys: Captured) -> None:
    assert main(words) == ExitStatus.NOT_SIGNED_IN
    assert capsys.readouterr().err.startswith(
        "authstate: nobody is signed in to the account home: sign in with `authstate login --account home`"
    )


@pytest.mark.parametrize("words", COMMANDS)
def test_the_selected_account_and_a_named_one(words: list[str], home: Path, capsys: Captured) -> None:
    vault = Vault(home, StoreMode.FILE)
    vault.select(vault.add("work").id)
    vault.add("other")
    for options, name in (([], "work"), (["--account", "other"], "other")):
        assert main([*options, *words]) == ExitStatus.NOT_SIGNED_IN
        said = capsys.readouterr()
        assert said.out == ""
        assert f"to the account {name}: sign in with `authstate login --account {name}`" in said.err
