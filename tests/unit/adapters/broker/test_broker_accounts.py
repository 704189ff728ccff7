"""Whose a refresh token is, and the engines of a vault's accounts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.broker_world import BrokerWorld

from authstate.adapters.broker.broker_accounts import BrokerAccounts, TokenOwner
from authstate.adapters.config.home import ConfigError
from authstate.adapters.testing import make_tokens
from authstate.engine.machines.refresh_claim import RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.errors import StoreUnavailable


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BrokerWorld]:
    world = BrokerWorld(tmp_path)
    yield world
    await world.close()


@pytest.fixture
def accounts(world: BrokerWorld) -> BrokerAccounts:
    return world.broker.accounts


async def note(world: BrokerWorld, account: str, claim: RefreshClaim) -> None:
    async with world.vault.store(account).locked() as held:
        await held.record(claim)


async def test_the_account_that_has_a_token_owns_it(world: BrokerWorld, accounts: BrokerAccounts) -> None:
    work = world.vault.add("work").id
    tokens = {"home": await world.sign_in(), work: await world.sign_in(work, account_id="org-2")}
    for account, its in tokens.items():
        assert await accounts.owner_of(its.refresh_token) == TokenOwner(account, its.account.digest)
    assert await accounts.owner_of(make_tokens().refresh_token) is None


@pytest.mark.parametrize("whose", ["the same", "somebody else", "unknown"])
async def test_a_token_that_was_replaced_belongs_to_who_is_signed_in_still(
    world: BrokerWorld, accounts: BrokerAccounts, whose: str
) -> None:
    tokens = await world.sign_in()
    old = make_tokens()
    digest = {"the same": tokens.account.digest, "somebody else": "ab" * 8, "unknown": ""}[whose]
    await note(world, "home", RefreshClaim(fingerprint_of(old.refresh_token), RefreshClaimState.SPENT, account=digest))
    expected = TokenOwner("home", tokens.account.digest) if whose == "the same" else None
    assert await accounts.owner_of(old.refresh_token) == expected


async def test_a_token_that_codex_replaced_without_a_claim_is_remembered(
    world: BrokerWorld, accounts: BrokerAccounts
) -> None:
    first = await world.sign_in()
    await accounts.owner_of(make_tokens().refresh_token)
    second = make_tokens()
    await world.store("home", second)
    expected = TokenOwner("home", second.account.digest)
    assert first.account == second.account
    assert await accounts.owner_of(first.refresh_token) == expected
    await world.store("home", make_tokens(account_id="org-2"))
    assert await accounts.owner_of(first.refresh_token) is None


async def test_what_is_remembered_is_bounded(world: BrokerWorld, accounts: BrokerAccounts) -> None:
    tokens = [await world.sign_in() for _ in range(3)]
    for one in (*tokens, *(make_tokens() for _ in range(998))):
        accounts.remember("home", one)
    assert [await accounts.owner_of(one.refresh_token) is None for one in tokens] == [True, False, False]


@pytest.mark.parametrize("stored", [None, ApiKey.parse("sk-1")])
async def test_a_token_of_nobody_who_is_signed_in_has_no_owner(
    world: BrokerWorld, accounts: BrokerAccounts, stored: Credentials | None
) -> None:
    tokens = make_tokens()
    claim = RefreshClaim(fingerprint_of(tokens.refresh_token), RefreshClaimState.SPENT, account=tokens.account.digest)
    await world.store("home", stored)
    await note(world, "home", claim)
    assert await accounts.owner_of(tokens.refresh_token) is None


async def test_an_account_that_has_the_token_goes_before_one_that_had_it(
    world: BrokerWorld, accounts: BrokerAccounts
) -> None:
    await world.sign_in()
    work = world.vault.add("work").id
    tokens = await world.sign_in(work)
    claim = RefreshClaim(fingerprint_of(tokens.refresh_token), RefreshClaimState.SPENT, account=tokens.account.digest)
    await note(world, "home", claim)
    assert await accounts.owner_of(tokens.refresh_token) == TokenOwner(work, tokens.account.digest)


async def test_a_store_that_cannot_be_read_hides_no_other_and_is_named_if_it_may_have_the_token(
    world: BrokerWorld, accounts: BrokerAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = world.vault.add("work").id
    tokens = await world.sign_in(work)

    async def broken() -> None:
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(world.vault.store("home"), "load", broken)
    assert await accounts.owner_of(tokens.refresh_token) == TokenOwner(work, tokens.account.digest)
    with pytest.raises(StoreUnavailable, match="the disk is gone"):
        await accounts.owner_of(make_tokens().refresh_token)


async def test_an_engine_is_in_step_with_other_processes(world: BrokerWorld, accounts: BrokerAccounts) -> None:
    await world.sign_in()
    async with accounts.engine("home") as engine:
        assert engine.session.credentials is not None
    newer = await world.sign_in()
    async with accounts.engine("home") as same:
        assert same is engine
        assert same.session.credentials == newer
    await world.sign_in(account_id="org-2")
    async with accounts.engine("home") as same:
        assert same.session.account is not None
        assert same.session.account.account_id == "org-2"


async def test_an_account_that_is_not_in_the_vault_has_no_engine(accounts: BrokerAccounts) -> None:
    with pytest.raises(ConfigError, match="there is no account 'nobody'"):
        async with accounts.engine("nobody"):
            pass
