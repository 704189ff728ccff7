"""Personal access tokens: static like a key, but the issuer says whose they are before anybody receives them."""

import asyncio

import pytest

from authstate.engine.engine import AuthEngine
from authstate.engine.model.account import Account, PlanType
from authstate.engine.model.credentials import ApiKey, Credentials, PersonalAccessToken
from authstate.engine.model.errors import (
    ExternalTokensActive,
    InvalidCredentials,
    IssuerUnavailable,
    LoginMethodForbidden,
    NotSignedIn,
    RecoveryExhausted,
    RefreshInterrupted,
    TokenRefused,
    TransientAuthError,
    WorkspaceForbidden,
)
from authstate.engine.model.events import AccountUpdated, AuthMode, Event, StateChanged, Warned
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization, Session
from authstate.engine.model.states import AuthState
from authstate.engine.ports import RefreshedTokens
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_external_tokens, make_tokens

TOKEN = PersonalAccessToken.read("at-1")
OWNER = Account(email="person@example.com", plan_type=PlanType.PRO, account_id="org-1", user_id="user-1")
OTHER = Account(account_id="org-2", user_id="user-1")
DOWN = IssuerUnavailable("the issuer is down")


class World:
    """One engine, a store, and an issuer that knows two tokens."""

    def __init__(self, stored: Credentials | None = None, policy: Policy | None = None) -> None:
        self.clock = ManualClock()
        self.authority = FakeAuthority(clock=self.clock)
        self.authority.owners |= {"at-1": OWNER, "at-2": OTHER}
        self.store = MemoryStore(stored)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock, policy=policy)
        self.events: list[Event] = []
        self.engine.subscribe(self.events.append)

    @property
    def asked(self) -> int:
        return len(self.authority.identified)

    def warnings(self) -> list[str]:
        return [event.code for event in self.events if isinstance(event, Warned)]


# What is a personal access token


@pytest.mark.parametrize("text", ["at-1", " at-1\n", '"at-1"', "\ufeffat-1"])
def test_a_token_is_read_as_a_person_pastes_it(text: str) -> None:
    assert PersonalAccessToken.parse(text) == TOKEN


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("sk-1", "use --with-api-key"),
        ("eyJ.a.b", "codex login --with-access-token"),
        ("at-1 canary", "white space"),
        ("at-canary\x01", "control character"),
    ],
)
def test_what_is_no_token_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidCredentials, match=why) as caught:
        PersonalAccessToken.parse(text)
    assert "canary" not in str(caught.value)


def test_a_stored_token_is_used_whatever_it_begins_with() -> None:
    """codex sends it as it is: measured with 0.169.0 and 0.171.0."""
    assert PersonalAccessToken.read(" other ").token.reveal() == "other"
    with pytest.raises(InvalidCredentials, match="empty"):
        PersonalAccessToken.read("  ")


# Signing in


async def test_a_login_asks_whose_the_token_is_and_stores_it() -> None:
    world = World()
    async with world.engine as engine:
        await engine.use_api_key(TOKEN)
        assert engine.session.state is AuthState.API_KEY
        assert engine.session.account == OWNER
        assert engine.auth_mode is AuthMode.PERSONAL_ACCESS_TOKEN
        assert AccountUpdated(AuthMode.PERSONAL_ACCESS_TOKEN, PlanType.PRO) in world.events
        stored = await world.store.load()
        assert isinstance(stored, PersonalAccessToken) and stored.token == TOKEN.token
        headers = (await engine.authorization()).headers()
        assert headers == {"Authorization": "Bearer at-1", "chatgpt-account-id": "org-1"}
    assert world.asked == 1
    assert world.authority.sent == []


async def test_it_replaces_a_chatgpt_login_and_revokes_it() -> None:
    before = make_tokens()
    world = World(before)
    async with world.engine as engine:
        await engine.use_api_key(TOKEN)
    assert world.authority.revoked == [before.refresh_token.reveal()]


@pytest.mark.parametrize("outcome", [TokenRefused("no"), DOWN], ids=["refused", "down"])
async def test_a_token_that_the_issuer_does_not_confirm_changes_nothing(outcome: TransientAuthError) -> None:
    before = make_tokens()
    world = World(before)
    world.authority.owners["at-1"] = outcome
    async with world.engine as engine:
        with pytest.raises(type(outcome)):
            await engine.use_api_key(TOKEN)
        assert engine.session.credentials == before == await world.store.load()
    assert world.authority.revoked == []


@pytest.mark.parametrize(
    ("policy", "error", "asked"),
    [
        (Policy(forced_login_method=LoginMethod.API), LoginMethodForbidden, 0),
        (Policy(forced_workspaces=("org-2",)), WorkspaceForbidden, 1),
        (Policy(forced_login_method=LoginMethod.CHATGPT), None, 1),
        (Policy(forced_workspaces=("org-1",)), None, 1),
    ],
)
async def test_the_policies_of_a_chatgpt_login_bind_it(
    policy: Policy, error: type[Exception] | None, asked: int
) -> None:
    """As in codex 0.169.0 and 0.171.0, which accept it where `forced_login_method` is `chatgpt`."""
    world = World(policy=policy)
    async with world.engine as engine:
        if error is None:
            await engine.use_api_key(TOKEN)
        else:
            with pytest.raises(error):
                await engine.use_api_key(TOKEN)
            assert await world.store.load() is None
            assert engine.session.credentials is None
    assert world.asked == asked


async def test_a_login_is_refused_while_a_parent_owns_the_tokens() -> None:
    world = World()
    async with world.engine as engine:
        await engine.use_external_tokens(make_external_tokens())
        with pytest.raises(ExternalTokensActive):
            await engine.use_api_key(TOKEN)
    assert world.asked == 0


# A stored token


async def test_a_start_asks_nobody_and_the_first_request_asks_once() -> None:
    world = World(TOKEN)
    async with world.engine as engine:
        assert (engine.session.state, engine.session.account) == (AuthState.API_KEY, None)
        assert engine.auth_mode is AuthMode.PERSONAL_ACCESS_TOKEN
        assert world.asked == 0
        world.authority.hold()
        callers = [asyncio.create_task(engine.authorization()) for _ in range(50)]
        await world.clock.settle()
        world.authority.release()
        answers = await asyncio.gather(*callers)
        assert {(one.token.reveal(), one.account_id, one.user_id) for one in answers} == {("at-1", "org-1", "user-1")}
        assert {one.generation for one in answers} == {engine.session.generation}
        await engine.authorization()
        await engine.check()
    assert world.asked == 1


async def test_nobody_receives_a_token_whose_owner_is_not_known() -> None:
    session = Session(AuthState.API_KEY, TOKEN)
    with pytest.raises(TransientAuthError, match="not known yet"):
        Authorization.of(session)


async def test_an_issuer_that_is_down_is_asked_again_after_a_pause() -> None:
    world = World(TOKEN)
    world.authority.owners["at-1"] = DOWN
    async with world.engine as engine:
        assert engine.identity_fault is None
        for _ in range(3):
            with pytest.raises(IssuerUnavailable):
                await engine.authorization()
        assert world.asked == 1
        assert isinstance(engine.identity_fault, IssuerUnavailable)
        assert world.warnings() == ["token_not_identified"]
        world.authority.owners["at-1"] = OWNER
        world.clock.advance(31)
        assert (await engine.authorization()).account_id == "org-1"
        assert engine.identity_fault is None


async def test_a_refused_token_stays_stored_and_says_what_to_do() -> None:
    world = World(TOKEN)
    del world.authority.owners["at-1"]
    async with world.engine as engine:
        with pytest.raises(TokenRefused, match="--with-access-token"):
            await engine.authorization()
        assert isinstance(engine.identity_fault, TokenRefused)
        assert engine.session.credentials is TOKEN
        await engine.use_api_key(PersonalAccessToken.read("at-2"))
        assert engine.identity_fault is None
        assert (await engine.authorization()).account_id == "org-2"


async def test_a_stored_token_of_a_forbidden_workspace_is_never_handed_out() -> None:
    world = World(TOKEN, Policy(forced_workspaces=("org-2",)))
    async with world.engine as engine:
        for _ in range(3):
            with pytest.raises(NotSignedIn, match="org-2"):
                await engine.authorization()
            await engine.restore()
            await engine.follow()
            await engine.check()
        assert engine.session.credentials is None
        assert await world.store.load() == TOKEN
        assert sum(isinstance(event, StateChanged) for event in world.events) == 2, "installed, then refused"
    assert world.asked == 1


async def test_a_stored_token_is_not_sent_to_the_issuer_if_the_method_is_forbidden() -> None:
    world = World(TOKEN, Policy(forced_login_method=LoginMethod.API))
    async with world.engine as engine:
        with pytest.raises(NotSignedIn, match="API key"):
            await engine.authorization()
    assert world.asked == 0


async def test_a_policy_that_is_set_later_binds_it() -> None:
    world = World(TOKEN)
    async with world.engine as engine:
        await engine.authorization()
        engine.set_policy(Policy(forced_workspaces=("org-2",)))
        with pytest.raises(NotSignedIn, match="org-2"):
            await engine.authorization()


async def test_a_401_has_no_recovery() -> None:
    world = World(TOKEN)
    async with world.engine as engine:
        refused = await engine.authorization()
        with pytest.raises(RecoveryExhausted, match="personal access token"):
            await engine.recover(refused)
        assert engine.session.state is AuthState.API_KEY
    assert world.authority.sent == []
    assert await world.store.load() == TOKEN


async def test_a_401_of_an_older_login_is_answered_with_the_token_of_the_same_account() -> None:
    world = World()
    async with world.engine as engine:
        await engine.complete_chatgpt_login(world.authority.issue(account_id="org-1"))
        refused = await engine.authorization()
        async with world.store.locked() as held:
            await held.save(TOKEN)
        await engine.follow()
        newer = await engine.recover(refused)
        assert newer.token == TOKEN.token and newer.is_same_account_as(refused)
        assert not newer.is_same_account_as(Authorization.of(Session(AuthState.API_KEY, ApiKey.parse("sk-1"))))
    assert world.authority.sent == []


class TellsNothing:
    """An issuer that cannot say whose a token is."""

    async def refresh(self, refresh_token: Secret) -> RefreshedTokens:
        raise AssertionError

    async def revoke(self, refresh_token: Secret) -> None:
        raise AssertionError


async def test_an_authority_that_cannot_tell_is_enough_where_no_workspace_is_forced() -> None:
    async with AuthEngine(MemoryStore(TOKEN), TellsNothing()) as engine:
        assert (await engine.authorization()).headers() == {"Authorization": "Bearer at-1"}
    policy = Policy(forced_workspaces=("org-1",))
    async with AuthEngine(MemoryStore(TOKEN), TellsNothing(), policy=policy) as engine:
        with pytest.raises(NotSignedIn, match="no workspace"):
            await engine.authorization()


# Other processes and other moments


async def test_a_sign_in_of_another_process_is_announced_with_its_owner() -> None:
    world = World()
    async with world.engine as engine:
        async with world.store.locked() as held:
            await held.save(TOKEN)
        await engine.follow()
        updates = [event for event in world.events if isinstance(event, AccountUpdated)]
        assert updates == [AccountUpdated(AuthMode.PERSONAL_ACCESS_TOKEN, PlanType.PRO)]
        before = engine.session
        await engine.follow()
        assert engine.session is before
    assert world.asked == 1


async def test_a_slow_issuer_holds_up_a_check_for_two_seconds_only() -> None:
    world = World(TOKEN)
    async with world.engine as engine:
        world.authority.hold()
        check = asyncio.create_task(engine.check())
        await world.clock.until_asleep()
        world.clock.advance(2)
        assert (await check).account is None
        world.authority.release()
        await world.clock.settle()
        assert engine.session.account == OWNER


async def test_an_answer_for_a_token_that_was_replaced_meanwhile_changes_nothing() -> None:
    world = World(TOKEN)
    async with world.engine as engine:
        world.authority.hold()
        waiting = asyncio.create_task(engine.authorization())
        await world.clock.settle()
        await engine.use_api_key(ApiKey.parse("sk-1"))
        world.authority.release()
        assert (await waiting).token.reveal() == "sk-1"


async def test_the_end_of_the_program_ends_the_question() -> None:
    world = World(TOKEN)
    async with world.engine as engine:
        world.authority.hold()
        waiting = asyncio.create_task(engine.authorization())
        await world.clock.settle()
        await engine.close()
        with pytest.raises(RefreshInterrupted):
            await waiting


async def test_a_cancelled_caller_does_not_cancel_the_question() -> None:
    world = World(TOKEN)
    async with world.engine as engine:
        world.authority.hold()
        one, other = (asyncio.create_task(engine.authorization()) for _ in range(2))
        await world.clock.settle()
        one.cancel()
        await world.clock.settle()
        world.authority.release()
        assert (await other).account_id == "org-1"
    assert world.asked == 1
