"""Whose a refresh token is that a client of a broker presents."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from support.broker_world import BrokerWorld

from authstate.adapters.broker.oauth_errors import OAuthError
from authstate.adapters.broker.token_grants import PresentedToken
from authstate.adapters.broker.token_owners import TokenOwner, TokenOwners
from authstate.adapters.testing.jwt import make_jwt
from authstate.adapters.vault.account_home import AccountHome
from authstate.engine.machines.refresh_claim import MAX_CLAIMS, RefreshClaim, RefreshClaimState, fingerprint_of
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.secret import Secret
from authstate.testing import make_tokens

SPENT, CLAIMED, DOUBTFUL, DEAD = (
    RefreshClaimState.SPENT,
    RefreshClaimState.CLAIMED,
    RefreshClaimState.DOUBTFUL,
    RefreshClaimState.DEAD,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BrokerWorld]:
    world = BrokerWorld(tmp_path)
    yield world
    await world.close()


@pytest.fixture
def owners(world: BrokerWorld) -> TokenOwners:
    found = world.broker.accounts.owners
    assert isinstance(found, TokenOwners)
    return found


async def note(world: BrokerWorld, account: str, claim: RefreshClaim) -> None:
    async with world.vault.store(account).locked() as held:
        await held.record(claim)


def spent(token: ChatgptTokens, successor: ChatgptTokens, **others: str) -> RefreshClaim:
    """A claim on a token that the issuer replaced."""
    account = others.get("account", token.account.digest)
    after = fingerprint_of(successor.refresh_token)
    return RefreshClaim(fingerprint_of(token.refresh_token), SPENT, account=account, successor=after)


def signed_in_at(tokens: ChatgptTokens, auth_time: object) -> ChatgptTokens:
    """The same tokens, whose id token says when the person signed in."""
    return msgspec.structs.replace(tokens, id_token=Secret(make_jwt(auth_time=auth_time)))


async def test_the_account_that_has_a_token_owns_it(world: BrokerWorld, owners: TokenOwners) -> None:
    work = world.vault.add("work").id
    tokens = {"home": await world.sign_in(), work: await world.sign_in(work, account_id="org-2")}
    for account, its in tokens.items():
        assert await owners.find(its.refresh_token) == TokenOwner(account, its.account.digest)
    assert await owners.find(make_tokens().refresh_token) is None


async def test_a_token_belongs_to_the_login_that_it_was_refreshed_to(world: BrokerWorld, owners: TokenOwners) -> None:
    first = await world.sign_in()
    async with world.broker.accounts.engine("home") as engine:
        await engine.refresh()
        await engine.refresh()
    assert (await world.stored()).refresh_token != first.refresh_token
    assert await owners.find(first.refresh_token) == TokenOwner("home", first.account.digest)


@pytest.mark.parametrize(
    ("what", "is_owned"),
    [("nothing else", True), ("somebody else", False), ("no account", False), ("no successor", False), ("dead", False)],
)
async def test_every_step_must_be_known(world: BrokerWorld, owners: TokenOwners, what: str, is_owned: bool) -> None:
    stored = await world.sign_in()
    old, between = make_tokens(), make_tokens()
    claim = {
        "nothing else": spent(between, stored),
        "somebody else": spent(between, stored, account="ab" * 8),
        "no account": spent(between, stored, account=""),
        "no successor": msgspec.structs.replace(spent(between, stored), successor=""),
        "dead": msgspec.structs.replace(spent(between, stored), state=DEAD),
    }[what]
    await note(world, "home", spent(old, between))
    await note(world, "home", claim)
    assert (await owners.find(old.refresh_token) is not None) is is_owned


@pytest.mark.parametrize("state", [CLAIMED, DOUBTFUL, DEAD])
@pytest.mark.parametrize(("after", "is_near"), [(-1.0, False), (0.0, True), (119.0, True), (121.0, False)])
async def test_an_answer_that_a_killed_process_stored(
    world: BrokerWorld, owners: TokenOwners, state: RefreshClaimState, after: float, is_near: bool
) -> None:
    """It was killed before it settled the claim, which stays in doubt."""
    stored = await world.sign_in()
    assert stored.last_refresh is not None
    old = make_tokens()
    fingerprint = fingerprint_of(old.refresh_token)
    sent_at = stored.last_refresh - after
    await note(world, "home", RefreshClaim(fingerprint, state, sent_at, account=stored.account.digest))
    assert (await owners.find(old.refresh_token) is not None) is (is_near and state is not DEAD)


@pytest.mark.parametrize(("signed_in", "is_owned"), [(900.0, True), (1000.0, True), (1001.0, False)])
async def test_whether_somebody_signed_in_since_a_token_in_doubt_was_sent(
    world: BrokerWorld, owners: TokenOwners, signed_in: float, is_owned: bool
) -> None:
    """The time of the sign-in tells it, however long ago that was."""
    stored = signed_in_at(make_tokens(), signed_in)
    await world.store("home", stored)
    old = make_tokens()
    fingerprint = fingerprint_of(old.refresh_token)
    await note(world, "home", RefreshClaim(fingerprint, DOUBTFUL, 1000.0, account=stored.account.digest))
    assert (await owners.find(old.refresh_token) is not None) is is_owned


async def test_claims_that_lead_in_a_circle(world: BrokerWorld, owners: TokenOwners) -> None:
    await world.sign_in()
    one, two = make_tokens(), make_tokens()
    await note(world, "home", spent(one, two))
    await note(world, "home", spent(two, one))
    assert await owners.find(one.refresh_token) is None


async def test_as_many_steps_as_claims_are_kept(world: BrokerWorld, owners: TokenOwners) -> None:
    tokens = [make_tokens() for _ in range(MAX_CLAIMS)] + [await world.sign_in()]
    for before, after in pairwise(tokens):
        await note(world, "home", spent(before, after))
    assert await owners.find(tokens[0].refresh_token) is not None


@pytest.mark.parametrize("is_seen", [True, False], ids=["by this broker", "by nobody"])
async def test_a_token_of_a_login_that_was_signed_out_yields_nothing_to_the_same_person(
    world: BrokerWorld, owners: TokenOwners, is_seen: bool
) -> None:
    first = await world.sign_in()
    if is_seen:
        await world.ask(first.refresh_token)
        async with world.broker.accounts.engine("home") as engine:
            await engine.log_out()
    else:
        await world.store("home", None)
    await world.sign_in()
    assert (await world.refusal(first.refresh_token)).error is OAuthError.INVALID_GRANT


async def test_signing_out_through_the_broker_is_seen(world: BrokerWorld, owners: TokenOwners) -> None:
    first = await world.sign_in()
    assert await owners.find(first.refresh_token) is not None
    await world.finished(world.broker.grants.revoke(first.refresh_token))
    await world.sign_in()
    assert await owners.find(first.refresh_token) is None


# A program that makes no claim


async def test_a_token_that_codex_replaced_without_a_claim_is_remembered(
    world: BrokerWorld, owners: TokenOwners
) -> None:
    first = await world.sign_in()
    assert await owners.known(first.refresh_token) is None
    await owners.find(make_tokens().refresh_token)
    second = make_tokens()
    await world.store("home", second)
    expected = TokenOwner("home", second.account.digest)
    assert first.account == second.account
    assert await owners.known(first.refresh_token) == await owners.find(first.refresh_token) == expected
    await world.store("home", make_tokens(account_id="org-2"))
    assert await owners.known(first.refresh_token) is None
    assert await owners.find(first.refresh_token) is None


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [(1000, 1000, True), (1000, 1000.0, True), (1000, 2000, False), (1000, None, False), ("x", True, True)],
)
async def test_another_sign_in_of_the_same_person_is_told_by_its_time(
    world: BrokerWorld, owners: TokenOwners, before: object, after: object, is_same: bool
) -> None:
    first, second = signed_in_at(make_tokens(), before), signed_in_at(make_tokens(), after)
    await world.store("home", first)
    owners.remember("home", first)
    await world.store("home", second)
    assert (await owners.find(first.refresh_token) is not None) is is_same


async def test_an_id_token_that_is_no_jwt_tells_no_time(world: BrokerWorld, owners: TokenOwners) -> None:
    first, second = (msgspec.structs.replace(make_tokens(), id_token=Secret("opaque")) for _ in range(2))
    await world.store("home", first)
    owners.remember("home", first)
    await world.store("home", second)
    assert await owners.find(first.refresh_token) is not None


async def test_a_token_that_moved_to_another_account_is_of_that_one(world: BrokerWorld, owners: TokenOwners) -> None:
    tokens = await world.sign_in()
    work = world.vault.add("work").id
    assert [owners.remember(account, tokens).account for account in ("home", work, "home")] == ["home", work, "home"]
    await world.store("home", None)
    await world.store(work, tokens)
    assert await owners.find(tokens.refresh_token) == TokenOwner(work, tokens.account.digest)
    assert await owners.known(tokens.refresh_token) == TokenOwner(work, tokens.account.digest)


async def test_what_was_seen_is_forgotten_once_nobody_is_signed_in(world: BrokerWorld, owners: TokenOwners) -> None:
    first = await world.sign_in()
    owners.remember("home", first)
    await world.store("home", None)
    assert await owners.known(first.refresh_token) is None
    await world.sign_in()
    assert await owners.find(first.refresh_token) is None


async def test_a_removed_account_has_no_token(world: BrokerWorld, owners: TokenOwners) -> None:
    work = world.vault.add("work").id
    tokens = await world.sign_in(work)
    assert await owners.find(tokens.refresh_token) is not None
    await world.store(work, None)
    await world.vault.remove(work)
    assert await owners.known(tokens.refresh_token) is None
    assert await owners.find(tokens.refresh_token) is None


async def test_what_is_remembered_is_bounded(world: BrokerWorld, owners: TokenOwners) -> None:
    tokens = [await world.sign_in() for _ in range(3)]
    for one in (*tokens, *(make_tokens() for _ in range(998))):
        owners.remember("home", one)
    assert [await owners.find(one.refresh_token) is None for one in tokens] == [True, False, False]


# Stores


@pytest.mark.parametrize("stored", [None, ApiKey.parse("sk-1")])
async def test_a_token_of_nobody_who_is_signed_in_has_no_owner(
    world: BrokerWorld, owners: TokenOwners, stored: Credentials | None
) -> None:
    tokens = make_tokens()
    await world.store("home", stored)
    await note(world, "home", spent(tokens, make_tokens()))
    assert await owners.find(tokens.refresh_token) is None


async def test_an_account_that_has_the_token_goes_before_one_that_had_it(
    world: BrokerWorld, owners: TokenOwners
) -> None:
    at_home = await world.sign_in()
    work = world.vault.add("work").id
    tokens = await world.sign_in(work)
    await note(world, "home", spent(tokens, at_home))
    assert await owners.find(tokens.refresh_token) == TokenOwner(work, tokens.account.digest)


async def test_a_store_that_cannot_be_read_hides_no_other_and_is_named_if_it_may_have_the_token(
    world: BrokerWorld, owners: TokenOwners, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = world.vault.add("work").id
    tokens = await world.sign_in(work)

    async def broken() -> None:
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(world.vault.store("home"), "load", broken)
    assert await owners.find(tokens.refresh_token) == TokenOwner(work, tokens.account.digest)
    with pytest.raises(StoreUnavailable, match="the disk is gone"):
        await owners.find(make_tokens().refresh_token)


# What codex stored in the home of an account


async def test_a_token_that_codex_stored_in_the_home_of_an_account(world: BrokerWorld, owners: TokenOwners) -> None:
    work = world.vault.add("work").id
    before = await world.sign_in(work)
    home = AccountHome(world.vault, world.leases, work)
    await home.prepare()
    other = world.authority.issue(account_id="org-2", email="other@example.com")
    async with world.vault.store_of_folder(home.folder).locked() as held:
        await held.save(other)
    grant = await world.ask(other.refresh_token)
    assert grant.access_token != other.access_token.reveal(), "the client has that one, so it was refreshed"
    entry = world.vault.accounts().named(grant.account)
    assert (entry.name, entry.id == work) == ("other@example.com", False)
    assert await world.stored(work) == before


async def test_known_tokens_are_granted_while_unknown_ones_are_bounded(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    await world.ask(tokens.refresh_token)
    refused = [await asyncio.wait_for(world.refusal(Secret(f"rt-{number}")), 60) for number in range(61)]
    assert refused[-1].error is OAuthError.SLOW_DOWN
    grant = await world.finished(world.broker.grants.refresh(PresentedToken(tokens.refresh_token)))
    assert grant.account == "home"
