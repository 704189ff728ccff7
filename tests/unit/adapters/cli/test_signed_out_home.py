"""`authstate run` says so if nobody is signed in, and only then."""

import asyncio
import os
from pathlib import Path

import pytest

from authstate.adapters.cli.signed_out_home import say_if_signed_out
from authstate.adapters.config import Config, Environment, StoreMode
from authstate.adapters.vault.vault import Vault
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.testing import make_tokens

Captured = pytest.CaptureFixture[str]
FILE = Config(store_mode=StoreMode.FILE)
COMMAND = ["codex", "exec", "hi"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def sign_in(home: Path, credentials: Credentials) -> None:
    async def steps() -> None:
        async with Vault(home, StoreMode.FILE).store("home").locked() as held:
            await held.save(credentials)

    asyncio.run(steps())


def test_nobody_is_signed_in(home: Path, capsys: Captured) -> None:
    say_if_signed_out(FILE, Environment(home=home), COMMAND)
    assert capsys.readouterr().err == (
        "authstate: nobody is signed in to the account home: sign in with `authstate login --account home`\n"
    )
    assert os.listdir(home) == [], "nothing is written"


@pytest.mark.parametrize("credentials", [make_tokens(), ApiKey.parse("sk-1")])
def test_somebody_is_signed_in(home: Path, capsys: Captured, credentials: Credentials) -> None:
    sign_in(home, credentials)
    say_if_signed_out(FILE, Environment(home=home), COMMAND)
    assert capsys.readouterr().err == ""


def test_the_home_is_another_account_than_the_one_in_use(home: Path, capsys: Captured) -> None:
    sign_in(home, make_tokens())
    Vault(home, StoreMode.FILE).add("work")
    say_if_signed_out(Config(store_mode=StoreMode.FILE, account="work"), Environment(home=home), COMMAND)
    assert "to the account work: sign in with `authstate login --account work`" in capsys.readouterr().err


def test_when_there_is_nothing_to_say(home: Path, capsys: Captured) -> None:
    nobody = Environment(home=home)
    say_if_signed_out(FILE, nobody, ["codex", "login", "--device-auth"])
    say_if_signed_out(FILE, Environment(home=home, api_key=ApiKey.parse("sk-1")), COMMAND)
    say_if_signed_out(Config(store_mode=StoreMode.EPHEMERAL), nobody, COMMAND)
    (home / "auth.json").write_text("{nonsense")
    say_if_signed_out(FILE, nobody, COMMAND)
    assert capsys.readouterr().err == ""
