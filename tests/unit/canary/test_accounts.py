"""No secret of any account shows in what the commands of `account` print, in the vault's own files, or in errors."""

import asyncio
import io
import os
import sys
from pathlib import Path

import pytest
from support.leaks import CANARY, assert_clean

from authstate.adapters.cli.main import main
from authstate.adapters.config import StoreMode
from authstate.adapters.config.home import ConfigError
from authstate.adapters.vault.account_states import read_accounts
from authstate.adapters.vault.vault import Vault
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.testing import LoopbackIssuer, make_tokens

KEY = ApiKey.parse(f"sk-{CANARY}-0123456789")


@pytest.fixture
def vault(tmp_path: Path, loopback: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch) -> Vault:
    """A home with a login, a key, an expired login and a damaged one; every secret is a canary."""
    for name in list(os.environ):
        if name.startswith(("CODEX_", "OPENAI_", "AUTHSTATE_")):
            monkeypatch.delenv(name)
    for name, value in loopback.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    vault = Vault(tmp_path, StoreMode.FILE)
    logins: list[Credentials] = [
        make_tokens(refresh_token=f"rt-{CANARY}-1"),
        KEY,
        make_tokens(refresh_token=f"rt-{CANARY}-2", account_id="org-2", expires_in=-1.0),
        make_tokens(account_id="org-3"),
    ]

    async def save(account: str, credentials: Credentials) -> None:
        async with vault.store(account).locked() as held:
            await held.save(credentials)

    for number, login in enumerate(logins):
        asyncio.run(save(vault.add(f"a{number}").id if number else "home", login))
    Path(vault.folder_of(vault.accounts().named("a3").id), "auth.json").write_text(
        f'{{"tokens": {{"refresh_token": "rt-{CANARY}-3"'
    )
    return vault


def test_what_the_commands_print(
    vault: Vault, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for json in ([], ["--json"]):
        for words in (
            ["list"],
            ["use", "a1"],
            ["use", "a3"],
            ["use", f"sk-{CANARY}-0123456789"],
            ["rename", "a1", "a1"],
            ["add", "a1"],
            ["add", f"sk-{CANARY}-0123456789 "],
            ["remove", "nobody"],
        ):
            main(["account", *words, *json])
    for words in (["account", "add", "--with-api-key"], ["account", "remove", "a1"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(KEY.key.reveal().encode())))
        main(words)
    for words in (["status"], ["logout"]):
        for name in ("home", "a2", "a3", f"sk-{CANARY}-0123456789"):
            main([*words, "--account", name])
    said = capsys.readouterr()
    assert "a2" in said.out and CANARY not in said.out + said.err


def test_the_list_and_what_is_read_hold_none(vault: Vault) -> None:
    found = asyncio.run(read_accounts(vault))
    assert len(found) == 4 and CANARY not in repr(found)
    assert CANARY not in Path(vault.file.path).read_text()
    assert CANARY not in repr(vars(vault)) + repr(vars(VaultStore(vault)))


def test_errors_hold_none(vault: Vault) -> None:
    with pytest.raises(StoreUnavailable) as unreadable:
        asyncio.run(VaultStore(vault, "a3").load())
    assert_clean(unreadable.value)
    with pytest.raises(ConfigError) as unknown:
        VaultStore(vault, "nobody")
    assert_clean(unknown.value)

    async def remove() -> None:
        await vault.remove(vault.accounts().named("a1").id)

    with pytest.raises(StoreUnavailable) as kept:
        asyncio.run(remove())
    assert CANARY not in str(kept.value)
