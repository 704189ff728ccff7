"""The home's own account: what stands in the home decides where its login is."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest
from unit.adapters.vault.conftest import save

from authstate.adapters.vault.home_account import leased
from authstate.adapters.vault.vault import Vault
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimTrigger, fingerprint_of
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ApiKey, ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.lease_handle import LeaseHandle, digest_of_access, is_lease
from authstate.engine.model.secret import Secret
from authstate.testing import make_tokens

HANDLE = LeaseHandle.of(b"1" * 32).secret.reveal()
KEY = ApiKey.parse("sk-0123456789")


async def adopt(vault: Vault, tokens: ChatgptTokens) -> None:
    """Let the vault have the login, and the home a lease."""
    os.makedirs(vault.home_account.folder)
    await save(vault.home_account.adopted, tokens)
    await save(vault.home_account.home, leased(tokens, HANDLE))


async def in_home(vault: Vault) -> ChatgptTokens:
    found = await vault.home_account.home.load()
    assert isinstance(found, ChatgptTokens)
    return found


async def test_while_a_lease_stands_in_the_home_the_login_is_in_the_vault(vault: Vault) -> None:
    store, tokens, newer = vault.home_account, make_tokens(), make_tokens()
    await adopt(vault, tokens)
    assert await store.load() == tokens
    await save(store, newer)
    assert await store.load() == await store.adopted.load() == newer
    lease = await in_home(vault)
    assert lease.access_token == newer.access_token and is_lease(lease.refresh_token)
    assert newer.refresh_token.reveal() not in Path(vault.home, "auth.json").read_text()


async def test_who_signs_in_over_the_lease_is_the_login_again(vault: Vault) -> None:
    store, other = vault.home_account, make_tokens(account_id="org-2")
    await adopt(vault, make_tokens())
    await save(store.home, other)
    assert await store.load() == other
    await save(store, None)
    assert await store.load() is None
    assert await store.adopted.load() is None, "the copy that nobody used goes, too"


@pytest.mark.parametrize("then", ["tokens", "key", "nothing"])
async def test_an_api_key_takes_the_place_of_the_lease_and_what_is_saved_next_is_seen(vault: Vault, then: str) -> None:
    store, tokens = vault.home_account, make_tokens()
    await adopt(vault, make_tokens())
    async with store.locked() as held:
        await held.save(KEY)
        assert await held.load() == KEY
        await held.prepare()
        if then == "tokens":
            await held.record(RefreshClaim(fingerprint_of(tokens.refresh_token)))
            await held.save(tokens)
        elif then == "nothing":
            await held.delete()
    assert await store.load() == {"tokens": tokens, "key": KEY, "nothing": None}[then]
    assert await store.adopted.load() is None


async def test_what_is_saved_after_a_sign_out_in_the_same_hold_is_seen(vault: Vault) -> None:
    store, tokens = vault.home_account, make_tokens()
    await adopt(vault, make_tokens())
    async with store.locked() as held:
        await held.delete()
        assert await held.load() is None
        await held.save(tokens)
    assert await store.load() == tokens


async def test_a_lease_that_cannot_be_updated_is_no_reason_to_lose_a_login(vault: Vault) -> None:
    store, newer = vault.home_account, make_tokens()
    await adopt(vault, make_tokens())
    async with store.locked() as held:
        Path(vault.home, "auth.json").write_text("{")
        await held.save(newer)
    assert await store.adopted.load() == newer
    with pytest.raises(StoreUnavailable):
        await store.load()


@pytest.mark.parametrize("left", ["old access token", "old handle", "another account"])
async def test_a_lease_that_a_killed_process_left_behind_is_updated(vault: Vault, left: str) -> None:
    store, old, newer = vault.home_account, make_tokens(), make_tokens()
    await adopt(vault, newer)
    up_to_date = await in_home(vault)
    lease = {
        "old access token": leased(old, HANDLE),
        "old handle": msgspec.structs.replace(up_to_date, refresh_token=leased(old, HANDLE).refresh_token),
        "another account": leased(make_tokens(account_id="org-2"), HANDLE),
    }[left]
    await save(store.home, lease)
    await store.update_lease()
    found = await in_home(vault)
    assert found.access_token == newer.access_token
    handle = LeaseHandle.parse(found.refresh_token.reveal())
    assert handle is not None and handle.seen == digest_of_access(newer.access_token)
    if left == "another account":
        assert handle.secret.reveal() != HANDLE
    else:
        assert handle.secret.reveal() == HANDLE


async def test_what_codex_signs_in_meanwhile_stays(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no lock. Here it comes while another account's lease is made."""
    store, signed_in = vault.home_account, make_tokens(account_id="org-3")
    await save(store.home, signed_in)
    written = Path(vault.home, "auth.json").read_bytes()
    await adopt(vault, make_tokens())
    await save(store.home, leased(make_tokens(account_id="org-2"), HANDLE))

    def new_lease(owner: Account) -> Secret:
        Path(vault.home, "auth.json").write_bytes(written)
        return LeaseHandle.of(b"2" * 32).secret

    monkeypatch.setattr(store, "_new_lease", new_lease)
    await store.update_lease()
    assert Path(vault.home, "auth.json").read_bytes() == written


@pytest.mark.parametrize("stands", ["the lease", "a login", "a key", "nothing", "half a file"])
async def test_nothing_else_in_the_home_is_touched(vault: Vault, stands: str) -> None:
    store = vault.home_account
    await adopt(vault, make_tokens())
    place = Path(vault.home, "auth.json")
    if stands == "half a file":
        place.write_text("{")
    elif stands != "the lease":
        await save(store.home, {"a login": make_tokens(), "a key": KEY, "nothing": None}[stands])
    before = place.read_bytes() if place.exists() else None
    if stands == "half a file":
        with pytest.raises(StoreUnavailable):
            await store.update_lease()
    else:
        await store.update_lease()
    assert (place.read_bytes() if place.exists() else None) == before


async def test_a_home_that_was_never_adopted_has_no_lease_to_update(vault: Vault) -> None:
    await save(vault.home_account, tokens := make_tokens())
    await vault.home_account.update_lease()
    assert await vault.home_account.load() == tokens


async def test_what_is_saved_over_half_a_file_is_the_login_of_the_home(vault: Vault) -> None:
    store, tokens, newer = vault.home_account, make_tokens(), make_tokens()
    await adopt(vault, tokens)
    Path(vault.home, "auth.json").write_text("{")
    async with store.locked() as held:
        await held.save(newer)
    assert (await store.load(), await store.adopted.load()) == (newer, tokens)


async def test_both_locks_are_held_and_a_waiter_sees_where_the_login_went(vault: Vault) -> None:
    store = vault.home_account
    await adopt(vault, make_tokens())
    other = Vault(vault.home, vault._mode).home_account

    async def sign_in() -> None:
        await save(other, KEY)

    async with store.locked() as held:
        waiter = asyncio.ensure_future(sign_in())
        await held.delete()
    await waiter
    assert await store.load() == await store.home.load() == KEY


async def test_a_claim_counts_wherever_it_was_recorded(vault: Vault) -> None:
    store, tokens = vault.home_account, make_tokens()
    await save(store, tokens)
    claim = RefreshClaim(fingerprint_of(tokens.refresh_token)).after(RefreshClaimTrigger.CLAIM, 1.0)
    async with store.locked() as held:
        await held.record(claim)
    found = await store.claim_on(claim.fingerprint)
    assert found is not None
    await adopt(vault, tokens)
    assert await store.claim_on(claim.fingerprint) == found
    assert await store.claim_on("0" * 32) is None


async def test_the_revision_changes_with_both(vault: Vault) -> None:
    store = vault.home_account
    seen = [store.revision()]
    await adopt(vault, make_tokens())
    seen.append(store.revision())
    await save(store.adopted, make_tokens())
    seen.append(store.revision())
    await save(store.home, KEY)
    seen.append(store.revision())
    assert len(set(map(repr, seen))) == 4
    assert store.findings() == []
    change = await store.last_change()
    assert change is not None and not change.is_foreign


def test_no_refresh_token_is_ever_left_in_a_home_with_a_lease() -> None:
    with pytest.raises(ValueError, match="never receives a refresh token"):
        leased(make_tokens(), "no handle")
