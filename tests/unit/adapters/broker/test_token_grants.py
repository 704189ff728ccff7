"""What clients of a broker get: those with a lease, and those with a refresh token of the vault."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.broker_world import BrokerWorld
from support.leaks import CANARY, assert_clean

from authstate.adapters.broker import token_grants
from authstate.adapters.broker.answer_turns import AnswerTurns
from authstate.adapters.broker.oauth_errors import OAuthError, OAuthRefusal
from authstate.adapters.broker.rate_limits import Rate
from authstate.adapters.broker.token_grants import PresentedToken, TokenGrants
from authstate.engine.machines.lease import LeaseRequest, LeaseState
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import Delivery, IssuerUnavailable, RefreshDeadReason, StoreUnavailable
from authstate.engine.model.lease_handle import PREFIX, LeaseHandle, digest_of_access
from authstate.engine.model.secret import MAX_TOKEN_LENGTH, Secret
from authstate.testing import make_tokens

COLLEAGUE = {"email": "colleague@example.com", "account_id": "org-2"}
REFUSED = IssuerUnavailable("the issuer says 400", delivery=Delivery.REFUSED)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BrokerWorld]:
    world = BrokerWorld(tmp_path)
    yield world
    await world.close()


# With a lease


async def test_a_lease_yields_the_access_token_and_a_handle_that_names_it(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    grant = await world.ask(handle.text())
    assert (grant.access_token, grant.id_token) == (tokens.access_token.reveal(), tokens.id_token.reveal())
    assert (grant.refresh_token, grant.account) == (handle.text(tokens.access_token).reveal(), "home")
    assert grant.expires_at == tokens.expires_at
    assert world.authority.sent == []
    assert tokens.refresh_token.reveal() not in (grant.refresh_token, grant.access_token)
    assert tokens.access_token.reveal() not in repr(grant)


async def test_a_client_that_has_the_current_token_causes_a_refresh_and_others_get_the_new_one(
    world: BrokerWorld,
) -> None:
    tokens = await world.sign_in()
    handles = [world.lease(tokens)[1] for _ in range(5)]
    for handle in handles:
        grant = await world.ask(handle.text(tokens.access_token))
        assert grant.access_token == (await world.stored()).access_token.reveal() != tokens.access_token.reveal()
    assert world.authority.sent == [tokens.refresh_token.reveal()]


@pytest.mark.parametrize("brokers", [1, 2])
async def test_any_number_of_clients_at_once_cost_one_refresh_for_each_expiry(world: BrokerWorld, brokers: int) -> None:
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    logins = [tokens.refresh_token]
    places = [world.broker, world.another_broker()][:brokers]
    for expiry in range(1, 6):
        clients = [handle.text(), handle.text(tokens.access_token), *logins[-3:]] * 6
        world.clock.advance(3601)
        asked = [places[number % brokers].grants.refresh(PresentedToken(one)) for number, one in enumerate(clients)]
        grants = await world.finished(asyncio.gather(*asked))
        tokens = await world.stored()
        assert {grant.access_token for grant in grants} == {tokens.access_token.reveal()}
        assert len(world.authority.sent) == len(set(world.authority.sent)) == expiry
        logins.append(tokens.refresh_token)
    for place in places[1:]:
        await place.close()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("unknown", "this broker knows no such lease"),
        ("ended", "the lease ........ was ended: ask whoever runs the broker for a new lease"),
        ("expired", "the lease ........ expired at 2027"),
        ("damaged", "the handle of this lease is damaged"),
        ("cut", "the handle of this lease is damaged"),
        ("of somebody else", "somebody else signed in to the account of the lease"),
        (
            "signed out",
            r"nobody is signed in to the account (\w+) with ChatGPT: sign in with `authstate login --account \1`",
        ),
        ("key", r"nobody is signed in to the account \w+ with ChatGPT"),
        ("removed account", "there is no account"),
    ],
)
async def test_a_lease_that_yields_nothing_is_refused_for_good(world: BrokerWorld, how: str, said: str) -> None:
    tokens = await world.sign_in()
    account = world.vault.add("work").id
    await world.store(account, tokens)
    lease, handle = world.leases.make(LeaseRequest(account, tokens.account, ttl=60.0))
    presented = handle.text()
    if how == "unknown":
        presented = LeaseHandle.of(bytes(32)).text()
    elif how == "ended":
        world.leases.end(lease.id)
    elif how == "expired":
        world.clock.advance(60)
    elif how in ("damaged", "cut"):
        presented = Secret(presented.reveal() + " " if how == "damaged" else presented.reveal()[:-1])
    elif how == "of somebody else":
        await world.sign_in(account, **COLLEAGUE)
    elif how == "removed account":
        await world.store(account, None)
        await world.vault.remove(account)
    else:
        await world.store(account, None if how == "signed out" else ApiKey.parse("sk-1"))
    refusal = await world.refusal(presented)
    assert (refusal.error, refusal.retry_after) == (OAuthError.INVALID_GRANT, None)
    assert re.search(said, refusal.description), refusal.description
    if how not in ("damaged", "cut"):
        await world.finished(world.broker.grants.revoke(presented))
    assert world.authority.sent == world.authority.revoked == [], "no issuer sees a handle"


async def test_a_lease_that_ends_while_its_client_waits_yields_nothing(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    lease, handle = world.lease(tokens)
    world.authority.hold()
    asking = asyncio.create_task(world.refusal(handle.text(tokens.access_token)))
    await world.authority.asked()
    world.leases.end(lease.id)
    world.authority.release()
    assert "was ended" in (await asking).description
    assert (await world.stored()).refresh_token != tokens.refresh_token, "the refresh is stored all the same"


@pytest.mark.parametrize("with_login", [False, True])
async def test_somebody_who_signs_in_while_a_client_waits_is_not_shown_to_it(
    world: BrokerWorld, with_login: bool
) -> None:
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    world.authority.hold()
    presented = tokens.refresh_token if with_login else handle.text(tokens.access_token)
    asking = asyncio.create_task(world.ask(presented))
    await world.authority.asked()
    async with world.broker.accounts.engine("home") as engine:
        other = world.authority.issue(**COLLEAGUE)
        signing_in = asyncio.create_task(engine.complete_chatgpt_login(other))
        await world.clock.settle()
        world.authority.release()
        await world.finished(signing_in)
    try:
        assert (await asking).access_token != other.access_token.reveal()
    except OAuthRefusal as refusal:
        assert refusal.error is OAuthError.INVALID_GRANT
    assert await world.stored() == other


async def test_a_dead_refresh_token_is_refused_for_good_and_sent_once(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    world.authority.kill(RefreshDeadReason.REVOKED)
    world.clock.advance(3601)
    for presented in (handle.text(), handle.text(tokens.access_token), tokens.refresh_token):
        refusal = await world.refusal(presented)
        assert refusal.error is OAuthError.INVALID_GRANT
        assert "ign in again" in refusal.description
    assert len(world.authority.sent) == 1


# The issuer is not available


async def test_an_outage_is_told_late_and_the_issuer_is_not_asked_again_for_each_client(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    world.clock.advance(3601)
    world.authority.fail_next(REFUSED, 99)
    for presented in [handle.text(), tokens.refresh_token] * 10:
        before = world.clock.monotonic()
        refusal = await world.refusal(presented)
        assert refusal.error is OAuthError.TEMPORARILY_UNAVAILABLE
        assert refusal.retry_after is not None
        assert world.clock.monotonic() - before >= 1.0, "codex 0.169.0 asks again without a pause"
    assert len(world.authority.sent) == 1
    world.authority._errors.clear()
    world.clock.advance(31)
    assert (await world.ask(handle.text())).access_token == (await world.stored()).access_token.reveal()


async def test_a_token_that_is_still_valid_outlasts_an_outage(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    world.authority.fail_next(REFUSED, 99)
    for presented in [handle.text(tokens.access_token), tokens.refresh_token] * 5:
        assert (await world.ask(presented, is_refused=False)).access_token == tokens.access_token.reveal()
    assert len(world.authority.sent) == 1


async def test_a_token_that_the_backend_refused_is_not_given_again_in_an_outage(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    world.authority.fail_next(REFUSED, 99)
    for presented in [handle.text(tokens.access_token), tokens.refresh_token] * 5:
        assert (await world.refusal(presented)).error is OAuthError.TEMPORARILY_UNAVAILABLE
    assert len(world.authority.sent) == 1


async def test_an_issuer_that_does_not_answer_holds_a_client_for_a_bounded_time(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    world.authority.hold()
    world.clock.advance(3601)
    before = world.clock.monotonic()
    refusal = await world.refusal(handle.text())
    assert refusal.error is OAuthError.TEMPORARILY_UNAVAILABLE
    assert world.clock.monotonic() - before <= 17, "codex 0.169.0 gives up after 20 s"
    world.authority.release()
    assert (await world.ask(handle.text())).access_token != tokens.access_token.reveal()
    assert len(world.authority.sent) == 1


async def test_a_store_that_cannot_be_read_is_no_reason_to_sign_in_again(
    world: BrokerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = make_tokens()
    _, handle = world.lease(tokens)

    async def broken() -> None:
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(world.vault.store("home"), "load", broken)
    for presented in (handle.text(), tokens.refresh_token):
        refusal = await world.refusal(presented)
        assert refusal.error is OAuthError.TEMPORARILY_UNAVAILABLE
        assert "the disk is gone" in refusal.description


# How long a token lasts


@pytest.mark.parametrize(("left", "refreshes"), [(370.0, 0), (355.0, 1), (200.0, 1), (1.0, 1)])
async def test_clients_get_tokens_that_codex_does_not_refresh_at_once(
    world: BrokerWorld, left: float, refreshes: int
) -> None:
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    world.clock.advance(3600 - left)
    for _ in range(3):
        grant = await world.ask(handle.text())
        assert grant.expires_at is not None
        assert grant.expires_at - world.clock.now() > 300
    assert len(world.authority.sent) == refreshes


async def test_an_issuer_of_short_tokens_is_not_asked_for_each_client(world: BrokerWorld) -> None:
    world.authority.expires_in = 240.0
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    for _ in range(10):
        assert (await world.ask(handle.text())).access_token
    assert len(world.authority.sent) == 1


# Bounds


async def test_a_lease_yields_tokens_at_a_bounded_rate(world: BrokerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = await world.sign_in()
    (_, one), (_, other) = world.lease(tokens), world.lease(tokens)
    for _ in range(token_grants.GRANTS.burst):
        await world.broker.grants.refresh(PresentedToken(one.text()))
    refusal = await world.refusal(one.text())
    assert (refusal.error, refusal.retry_after) == (OAuthError.SLOW_DOWN, 1 / token_grants.GRANTS.per_second)
    await world.broker.grants.refresh(PresentedToken(other.text()))
    assert (await world.ask(one.text())).access_token, "a second has passed"


async def test_a_client_that_refuses_every_token_causes_a_bounded_number_of_refreshes(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    presented = handle.text(tokens.access_token)
    for _ in range(token_grants.REFRESHES.burst + 20):
        grant = await world.ask(presented)
        assert grant.refresh_token is not None
        presented = Secret(grant.refresh_token)
    assert len(world.authority.sent) == token_grants.REFRESHES.burst


async def test_many_processes_that_refuse_one_token_count_as_one_refresh(
    world: BrokerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_grants, "GRANTS", Rate(burst=1000, per_second=1.0))
    monkeypatch.setattr(token_grants, "REFRESHES", Rate(burst=3, per_second=0.001))
    tokens = await world.sign_in()
    grants = TokenGrants(world.broker.accounts, world.broker.leases, world.authority, world.clock)
    _, handle = world.lease(tokens)
    presented = handle.text(tokens.access_token)
    for number in range(1, 4):
        answers = await asyncio.gather(*(grants.refresh(PresentedToken(presented)) for _ in range(20)))
        assert len(world.authority.sent) == number
        assert answers[0].refresh_token is not None
        presented = Secret(answers[0].refresh_token)


async def test_a_late_refusal_of_the_old_token_does_not_spend_the_new_one(world: BrokerWorld) -> None:
    """codex 0.169.0 asks once more if a request that it sent with the old token is refused after it has the new one."""
    tokens = await world.sign_in()
    _, handle = world.lease(tokens)
    grants = world.broker.grants
    world.clock.advance(60)
    new = await grants.refresh(PresentedToken(handle.text(tokens.access_token), may_be_late=True))
    assert new.refresh_token is not None
    presented = PresentedToken(Secret(new.refresh_token), may_be_late=True)
    assert (await grants.refresh(presented)).access_token == new.access_token
    assert len(world.authority.sent) == 1
    world.clock.advance(token_grants.JUST_NOW)
    assert (await grants.refresh(presented)).access_token != new.access_token
    assert len(world.authority.sent) == 2


async def test_unknown_tokens_are_looked_for_at_a_bounded_rate(
    world: BrokerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_grants, "UNKNOWN", Rate(burst=3, per_second=0.5))
    broker = world.another_broker()
    await world.sign_in()
    kinds = []
    for number in range(5):
        with pytest.raises(OAuthRefusal) as refusal:
            await world.ask(Secret(f"rt-{number}"), broker)
        kinds.append(refusal.value.error)
    assert kinds[:3] == [OAuthError.INVALID_GRANT] * 3
    assert kinds[3] is OAuthError.SLOW_DOWN
    await broker.close()


@pytest.mark.parametrize("presented", ["", "  ", "x" * (MAX_TOKEN_LENGTH + 1), PREFIX + "x" * 10_000_000])
async def test_what_cannot_be_a_token_is_refused_at_once(world: BrokerWorld, presented: str) -> None:
    for work in (
        world.broker.grants.refresh(PresentedToken(Secret(presented))),
        world.broker.grants.revoke(Secret(presented)),
    ):
        with pytest.raises(OAuthRefusal) as refusal:
            await work
        assert refusal.value.error is OAuthError.INVALID_REQUEST
        assert len(refusal.value.description) < 200


# With a refresh token


async def test_the_current_refresh_token_is_spent_and_the_answer_has_none(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    grant = await world.ask(tokens.refresh_token)
    stored = await world.stored()
    assert grant.access_token == stored.access_token.reveal() != tokens.access_token.reveal()
    assert grant.refresh_token is None
    assert world.authority.sent == [tokens.refresh_token.reveal()]
    assert (await world.ask(tokens.refresh_token)).access_token == stored.access_token.reveal(), "an older one"
    assert len(world.authority.sent) == 1


async def test_an_old_token_of_somebody_who_signed_out_yields_nothing_of_who_signed_in(world: BrokerWorld) -> None:
    """Its claim is still known to the store."""
    tokens = await world.sign_in()
    await world.ask(tokens.refresh_token)
    await world.sign_in(**COLLEAGUE)
    refusal = await world.refusal(tokens.refresh_token)
    assert refusal.error is OAuthError.INVALID_GRANT
    await world.finished(world.broker.grants.revoke(tokens.refresh_token))
    assert (await world.stored()).account.account_id == "org-2", "and signs nobody else out"


async def test_an_old_token_yields_that_of_the_account_that_the_login_is_in_now(world: BrokerWorld) -> None:
    """codex signed somebody in over the login, which became an account of its own."""
    before = await world.sign_in()
    await world.ask(before.refresh_token)
    aside = world.vault.add("aside").id
    await world.store(aside, moved := await world.stored())
    store = world.vault.store(aside)
    claims = world.stores[world.vault.home].claims
    async with store.locked() as held:
        for claim in claims.values():
            await held.record(claim)
    await world.sign_in(**COLLEAGUE)
    grant = await world.ask(before.refresh_token)
    assert (grant.account, grant.access_token) == (aside, moved.access_token.reveal())


# Revocations


async def test_a_revoked_handle_ends_its_lease_and_nothing_else(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    lease, handle = world.lease(tokens)
    other, _ = world.lease(tokens)
    for _ in range(2):
        await world.broker.grants.revoke(handle.text(tokens.access_token))
    assert [one.state for one in world.leases.leases()] == [LeaseState.ENDED, LeaseState.ACTIVE]
    assert await world.stored() == tokens
    assert (world.authority.revoked, lease.id != other.id) == ([], True)


@pytest.mark.parametrize("where", ["is_of_home", "signs_out"])
async def test_a_revoked_handle_of_a_home_of_the_owner_signs_its_account_out(world: BrokerWorld, where: str) -> None:
    tokens = await world.sign_in()
    _, handle = world.leases.make(msgspec.structs.replace(LeaseRequest("home", tokens.account), **{where: True}))
    await world.finished(world.broker.grants.revoke(handle.text()))
    assert await world.vault.store("home").load() is None
    assert world.authority.revoked == [tokens.refresh_token.reveal()]
    assert world.leases.leases()[0].state is LeaseState.ENDED


async def test_a_revoked_handle_of_a_home_signs_nobody_else_out(world: BrokerWorld) -> None:
    _, handle = world.lease(await world.sign_in(), is_of_home=True)
    colleague = await world.sign_in(**COLLEAGUE)
    await world.finished(world.broker.grants.revoke(handle.text()))
    assert await world.stored() == colleague
    assert world.leases.leases()[0].state is LeaseState.ENDED


async def test_a_revoked_refresh_token_signs_out_and_an_older_one_does_nothing(world: BrokerWorld) -> None:
    tokens = await world.sign_in()
    await world.ask(tokens.refresh_token)
    await world.finished(world.broker.grants.revoke(tokens.refresh_token))
    newer = await world.stored()
    assert world.authority.revoked == []
    await world.finished(world.broker.grants.revoke(newer.refresh_token))
    assert await world.vault.store("home").load() is None
    assert world.authority.revoked == [newer.refresh_token.reveal()]


async def test_a_token_that_nobody_has_is_revoked_at_the_issuer(world: BrokerWorld) -> None:
    await world.broker.grants.revoke(Secret("rt-of-nobody"))
    assert world.authority.revoked == ["rt-of-nobody"]
    world.authority.fail_revoke(REFUSED)
    with pytest.raises(OAuthRefusal) as refusal:
        await world.broker.grants.revoke(Secret("rt-of-nobody"))
    assert refusal.value.error is OAuthError.TEMPORARILY_UNAVAILABLE


# Secrets


@pytest.mark.parametrize("how", ["unknown", "ended", "login", "dead", "outage"])
async def test_a_refusal_shows_no_secret(world: BrokerWorld, how: str, caplog: pytest.LogCaptureFixture) -> None:
    tokens = make_tokens(refresh_token=f"rt-{CANARY}", now=world.clock.now())
    await world.store("home", tokens if how == "dead" else world.authority.accept(tokens))
    lease, handle = world.lease(tokens)
    presented = Secret(f"rt-{CANARY}-unknown") if how in ("unknown", "login") else handle.text(tokens.access_token)
    if how == "ended":
        world.leases.end(lease.id)
    if how == "outage":
        world.authority.fail_next(REFUSED)
        world.clock.advance(3601)
    refusal = await world.refusal(presented)
    assert_clean(refusal)
    assert CANARY not in refusal.description
    assert handle.secret.reveal()[len(PREFIX) :] not in f"{refusal!r} {refusal.description} {caplog.text}"
    assert digest_of_access(tokens.access_token) not in refusal.description
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("presents", "waits"),
    [("a refresh token", "in the home"), ("of the home", "in the home"), ("of an account", "in homes"), ("other", "")],
)
async def test_a_client_that_writes_in_place_waits_for_its_turn(
    world: BrokerWorld, monkeypatch: pytest.MonkeyPatch, presents: str, waits: str
) -> None:
    waited: list[str] = []

    async def note(turns: AnswerTurns, where: str) -> None:
        waited.append(where)

    monkeypatch.setattr(AnswerTurns, "wait_in_home", note)
    monkeypatch.setattr(AnswerTurns, "wait_elsewhere", note)
    account = world.vault.add("work").id if presents == "of an account" else "home"
    tokens = await world.sign_in(account)
    kinds = {"of the home": {"is_of_home": True}, "of an account": {"signs_out": True}}
    request = msgspec.structs.replace(LeaseRequest(account, tokens.account), **kinds.get(presents, {}))
    _, handle = world.leases.make(request)
    presented = tokens.refresh_token if presents == "a refresh token" else handle.text()
    for writes_in_place in (False, True):
        token = PresentedToken(presented, writes_in_place=writes_in_place)
        await world.finished(world.broker.grants.refresh(token))
    home = world.vault.home
    places = {"in the home": home, "in homes": os.path.join(home, "authstate", "homes", account), "": handle.digest}
    assert waited == [places[waits]]
