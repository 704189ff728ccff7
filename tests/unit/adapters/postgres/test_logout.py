"""`authstate postgres logout`."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from authstate import ApiKey, KeyFile, PostgresDatabase
from authstate.adapters.cli.demo import read_login
from authstate.adapters.cli.main import main
from authstate.engine.model.credentials import Credentials
from authstate.testing import LoopbackIssuer

Captured = pytest.CaptureFixture[str]
T = TypeVar("T")


class Accounts:
    """The accounts of a database, and the command that signs out of one."""

    def __init__(self, url: str, keys: Path) -> None:
        self.keys = keys
        self._url = url

    def save(self, account: str, credentials: Credentials) -> None:
        async def steps(database: PostgresDatabase) -> None:
            async with database.store(account).locked() as held:
                await held.save(credentials)

        self._run(steps)

    def stored(self, account: str) -> Credentials | None:
        return self._run(lambda database: database.store(account).load())

    def log_out(self, account: str, *more: str) -> int:
        return main(["postgres", "logout", account, "--keys", str(self.keys), *more])

    def _run(self, steps: Callable[[PostgresDatabase], Awaitable[T]]) -> T:
        async def run() -> T:
            async with PostgresDatabase(self._url, KeyFile(self.keys), connections=1, listens=False) as database:
                return await steps(database)

        return asyncio.run(run())


@pytest.fixture
def accounts(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopback: LoopbackIssuer, capsys: Captured
) -> Accounts:
    for name, value in loopback.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    monkeypatch.setenv("AUTHSTATE_DATABASE_URL", database_url)
    assert main(["postgres", "new-key", "--keys", str(tmp_path / "keys")]) == 0
    capsys.readouterr()
    return Accounts(database_url, tmp_path / "keys")


def test_the_login_is_removed_and_its_tokens_are_revoked(
    accounts: Accounts, loopback: LoopbackIssuer, capsys: Captured
) -> None:
    accounts.save("alice", read_login(loopback.seed()))
    revoked_before = loopback.stats()["revocations"]
    accounts.save("bob", ApiKey.parse("sk-bob-0123456789"))
    assert accounts.log_out("alice") == 0
    out, err = capsys.readouterr()
    assert out.startswith("Signed out of account alice in PostgreSQL at ") and err == ""
    assert accounts.stored("alice") is None and accounts.stored("bob") is not None
    assert loopback.stats()["revocations"] == revoked_before + 1


def test_an_account_without_a_login_is_told(accounts: Accounts, capsys: Captured) -> None:
    assert accounts.log_out("alice") == 1
    assert "no login is stored there, so nothing was removed" in capsys.readouterr().err


def test_an_issuer_that_cannot_be_reached_is_told(
    accounts: Accounts, loopback: LoopbackIssuer, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = read_login(loopback.seed())
    accounts.save("alice", tokens)
    monkeypatch.setenv("CODEX_REVOKE_TOKEN_URL_OVERRIDE", "http://127.0.0.1:1/oauth/revoke")
    assert accounts.log_out("alice") == 0
    error = capsys.readouterr().err
    assert "the old refresh token could not be revoked" in error and tokens.refresh_token.reveal() not in error
    assert accounts.stored("alice") is None


def test_a_login_of_another_key_stays(accounts: Accounts, tmp_path: Path, capsys: Captured) -> None:
    accounts.save("alice", ApiKey.parse("sk-alice-0123456789"))
    other = tmp_path / "other"
    assert main(["postgres", "new-key", "--keys", str(other)]) == 0
    right, accounts.keys = accounts.keys, other
    capsys.readouterr()
    assert accounts.log_out("alice") == 1
    out, err = capsys.readouterr()
    assert out == "" and "is encrypted with the key" in err and "Traceback" not in err
    accounts.keys = right
    assert accounts.stored("alice") is not None


@pytest.mark.parametrize("account", ["", "alice@example.com", "a b"])
def test_an_id_of_a_wrong_form_is_refused(account: str, accounts: Accounts, capsys: Captured) -> None:
    assert accounts.log_out(account) == 2
    assert capsys.readouterr().err.count("\n") == 1
