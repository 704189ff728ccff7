"""Faults that a hostile review of the vault, the broker and `run` found."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.homes import fill
from support.vaults import add_account
from support.wire_client import AUTHSTATE, clean_environment
from unit.adapters.vault.conftest import save

from authstate.adapters.broker.listeners import Address
from authstate.adapters.config import ConfigError, StoreMode
from authstate.adapters.logs.redaction import redact_text
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.vault.account_home import AccountHome
from authstate.adapters.vault.lease_book import LeaseBook, lease_of_home
from authstate.adapters.vault.vault import Vault
from authstate.adapters.vault.vault_store import VaultStore
from authstate.engine.machines.lease import LeaseRequest, LeaseState
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.lease_handle import LeaseHandle
from authstate.testing import LoopbackIssuer, make_tokens


def vault_with_work(tmp_path: Path) -> tuple[Vault, str]:
    vault = Vault(tmp_path, StoreMode.FILE)
    return vault, vault.add("work").id


def test_a_damaged_list_selects_no_other_account(tmp_path: Path) -> None:
    vault, work = vault_with_work(tmp_path)
    vault.select(work)
    (tmp_path / "authstate" / "accounts.json").write_text("{")
    with pytest.raises(StoreUnavailable):
        VaultStore(Vault(tmp_path, StoreMode.FILE))
    assert VaultStore(Vault(tmp_path, StoreMode.FILE), "home").account == "home"


@pytest.mark.parametrize("state", [RefreshClaimState.DOUBTFUL, RefreshClaimState.DEAD])
async def test_what_is_known_of_a_token_moves_into_the_vault_with_it(tmp_path: Path, state: RefreshClaimState) -> None:
    vault, work = vault_with_work(tmp_path)
    home = AccountHome(vault, LeaseBook(vault.folder), work)
    tokens = make_tokens()
    store = AuthJsonStore(home.folder)
    await save(store, tokens)
    fingerprint = fingerprint_of(tokens.refresh_token)
    async with store.locked() as held:
        await held.record(RefreshClaim(fingerprint, state, 1.0))
    await home.prepare()
    found = await vault.store(work).claim_on(fingerprint)
    assert found is not None and found.state is state


async def test_the_home_of_an_account_follows_a_home_that_was_moved(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    vault, work = vault_with_work(before)
    await save(vault.store(work), make_tokens())
    await AccountHome(vault, LeaseBook(vault.folder), work).prepare()
    before.rename(after)
    (after / "config.toml").write_text("model = 'x'\n")
    vault = Vault(after, StoreMode.FILE)
    folder = Path((await AccountHome(vault, LeaseBook(vault.folder), work).prepare()).folder)
    assert (folder / "config.toml").read_text() == "model = 'x'\n"
    assert (folder / "archived_sessions").resolve() == after / "archived_sessions"


def test_a_key_is_gone_from_the_home_of_an_account_that_signed_out(tmp_path: Path) -> None:
    vault, work = vault_with_work(tmp_path)
    asyncio.run(save(vault.store(work), ApiKey.parse("sk-0123456789")))
    home = AccountHome(vault, LeaseBook(vault.folder), work)
    asyncio.run(home.prepare())
    ended = subprocess.run([*AUTHSTATE, "logout", "--account", "work"], env=clean_environment(tmp_path), check=False)
    assert ended.returncode == 0
    assert asyncio.run(AuthJsonStore(home.folder).load()) is None


def test_a_handle_is_hidden_in_an_error() -> None:
    handle = LeaseHandle.of(bytes(32)).text(make_tokens().access_token).reveal()
    assert handle.removeprefix("authstate_lease_")[:8] not in redact_text(f"there is no lease {handle!r}")


@pytest.mark.parametrize("text", ["127.0.0.1:" + "9" * 5000, "127.0.0.1:000080"])
def test_a_port_with_too_many_digits(text: str) -> None:
    with pytest.raises(ConfigError, match="ADDRESS:PORT"):
        Address(text)


@pytest.mark.parametrize("host", [".localhost", "x" * 64 + ".localhost"])
def test_a_name_that_cannot_be_looked_up(host: str) -> None:
    with pytest.raises(ConfigError, match="--listen"):
        Address(f"{host}:0").listen()


def test_all_leases_end_in_one_change_but_that_of_the_home(tmp_path: Path) -> None:
    book = LeaseBook(str(tmp_path))
    for _ in range(3):
        book.make(LeaseRequest("home", Account()))
    kept, _ = book.make(lease_of_home(Account()))
    assert len(book.end_all()) == 3
    assert [lease.id for lease in book.leases() if lease.state is LeaseState.ACTIVE] == [kept.id]
    assert book.end_all() == ()


@pytest.mark.skipif(os.name == "nt", reason="shells")
def test_authstate_in_a_run_as_another_account_acts_as_that_account(tmp_path: Path) -> None:
    with LoopbackIssuer() as issuer:
        home = fill(tmp_path / "home", issuer, config='[authstate]\naccount = "work"\n', email="me@example.com")
        asyncio.run(add_account(home, issuer, "work", account_id="org-2", user_id="user-2"))
        inner = [*AUTHSTATE, "run", "--", *AUTHSTATE, "token", "--format", "json"]
        for named in ({"AUTHSTATE_ACCOUNT": "work"}, {}):
            environ = clean_environment(home, **issuer.environment, **named)
            shown = subprocess.run([*AUTHSTATE, "run", "--", *inner], env=environ, capture_output=True, check=False)
            assert json.loads(shown.stdout)["workspaceId"] == "org-2", shown.stderr


_EARLY = """
import os, signal, sys
from authstate.adapters.cli import run
start = run.ChildProcess
def started(*arguments):
    child = start(*arguments)
    print(child._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    return child
run.ChildProcess = started
sys.exit(run.run([], ["sleep", "30"]))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_signal_that_comes_before_the_event_loop_reaches_the_command(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _EARLY], env=clean_environment(tmp_path), timeout=60, stdout=subprocess.PIPE, check=False
    )
    assert ended.returncode == -15
    with pytest.raises(ProcessLookupError):
        os.kill(int(ended.stdout), 0)
