"""Which child gets which tokens, what a refresh request costs, and a child that does not take its tokens."""

import asyncio
from functools import partial

import pytest
from support.child_in_memory import Child, World, tokens

from authstate.adapters.child.token_dialects import Dialect
from authstate.adapters.child.token_sync import TokenSync
from authstate.adapters.jsonrpc.peer import INTERNAL_ERROR, Peer, RemoteError
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ApiKey, ChatgptTokens, ExternalTokens, PersonalAccessToken
from authstate.engine.model.errors import Delivery, IssuerUnavailable, RefreshDeadReason
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.testing import make_external_tokens


def acts_with(child: Child, token: str | None) -> bool:
    """Whether the child holds this token."""
    return child.token == token


async def test_without_a_login_the_child_gets_no_tokens() -> None:
    world = World()
    async with world.engine, world.child() as (_, child):
        assert [name for name, _ in child.requests] == ["initialize", "initialized", "getAuthStatus"]
        await world.engine.use_api_key(ApiKey.parse("sk-1"))
        await child.until(lambda: child.token == "sk-1")


async def test_an_expired_login_is_refreshed_before_the_child_gets_it() -> None:
    world = World(tokens(expires_in=-60))
    async with world.engine, world.child() as (_, child):
        assert child.token == world.token()
        assert len(world.authority.sent) == 1


async def test_a_refused_token_costs_one_refresh() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        before = child.token
        answer = await child.ask()
        assert answer == world.token() != before
        await world.clock.settle()
        assert len(world.authority.sent) == 1
        assert child.count("account/login/start") == 1  # the answer brought them


async def test_a_child_that_was_refused_an_old_token_gets_the_newer_one_without_a_refresh() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, one), world.child() as (_, other):
        other.silent.add("account/login/start")
        newest = await one.ask()
        await other.until(lambda: other.count("account/login/start") == 2)
        world.clock.advance(1)
        assert await other.ask() == newest
        assert len(world.authority.sent) == 1


async def test_two_turns_that_ask_one_after_the_other_cost_one_refresh() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        first = await child.ask()
        assert await child.ask() == first
        world.clock.advance(0.2)
        assert await child.ask() != first
        assert len(world.authority.sent) == 2


async def test_many_children_that_ask_at_once_cost_one_refresh() -> None:
    world = World(tokens())
    async with world.engine:
        links = [world.child() for _ in range(8)]
        children = [(await link.__aenter__())[1] for link in links]
        answers = await asyncio.gather(*(child.ask() for child in children))
        for link in links:
            await link.__aexit__(None, None, None)
    assert set(answers) == {world.token()}
    assert len(world.authority.sent) == 1


async def test_a_refresh_a_login_and_a_logout_reach_every_child() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, one), world.child() as (_, other):
        for change in (
            world.engine.refresh(),
            world.engine.use_api_key(ApiKey.parse("sk-2")),
            world.engine.complete_chatgpt_login(world.authority.issue(account_id="org-2")),
            world.engine.use_external_tokens(make_external_tokens()),
            world.engine.log_out(),
        ):
            await change
            held = world.engine.session.credentials
            wanted = held.key if isinstance(held, ApiKey) else None
            if isinstance(held, ChatgptTokens | ExternalTokens):
                wanted = held.access_token
            for child in (one, other):
                await child.until(partial(acts_with, child, None if wanted is None else wanted.reveal()))
        assert one.token is None
        # A key is taken only by a child that was signed out before.
        assert one.count("account/logout") == 2


async def test_a_child_is_signed_out_when_a_personal_access_token_is_signed_in() -> None:
    """No release takes one as external tokens: measured with 0.150.0, 0.169.0 and 0.171.0."""
    world = World(tokens())
    world.authority.owners["at-1"] = Account(account_id="org-1", user_id="user-1")
    async with world.engine, world.child() as (link, child):
        await world.engine.use_api_key(PersonalAccessToken.read("at-1"))
        await child.until(lambda: child.token is None)
        assert link._token_sync is not None
        await link._token_sync.settled()
        assert not link._token_sync.is_signed_in
        assert child.count("account/logout") == 1
        assert not [params for _, params in child.requests if "at-1" in str(params)]
        await world.engine.complete_chatgpt_login(world.authority.issue())
        await child.until(lambda: child.token == world.token())


async def test_a_refresh_request_beside_a_personal_access_token_is_refused() -> None:
    world = World(tokens())
    world.authority.owners["at-1"] = Account(account_id="org-1", user_id="user-1")
    async with world.engine, world.child() as (_, child):
        child.silent.add("account/logout")
        await world.engine.use_api_key(PersonalAccessToken.read("at-1"))
        with pytest.raises(RemoteError) as caught:
            await child.ask()
        assert "personal access token" in caught.value.message
        assert world.authority.sent == []


async def test_the_error_for_a_dead_refresh_token_says_what_to_do() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        world.authority.kill(RefreshDeadReason.REVOKED)
        for _ in range(2):
            with pytest.raises(RemoteError) as caught:
                await child.ask()
            assert caught.value.code == INTERNAL_ERROR
            assert "revoked" in caught.value.message and "Sign in again" in caught.value.message
        assert len(world.authority.sent) == 1


async def test_a_child_gets_a_login_without_a_refresh_token_and_an_error_after_a_401() -> None:
    world = World(login := tokens(refresh_token=""))
    async with world.engine, world.child() as (_, child):
        assert child.token == login.access_token.reveal()
        for _ in range(2):
            with pytest.raises(RemoteError) as caught:
                await child.ask()
            assert "this sign-in has no refresh token" in caught.value.message
        world.store.credentials = newer = tokens()
        assert await child.ask() == newer.access_token.reveal()
        assert world.authority.sent == []


async def test_a_refresh_that_takes_too_long_is_answered_in_time_and_its_tokens_come_later() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        world.authority.hold()
        asked = asyncio.ensure_future(child.ask())
        await world.authority.asked()
        world.clock.advance(9)
        with pytest.raises(RemoteError) as caught:
            await asked
        assert "in time" in caught.value.message
        world.authority.release()
        await child.until(lambda: child.token == world.token() and child.count("account/login/start") == 2)
        assert len(world.authority.sent) == 1


async def test_the_answer_says_why_the_issuer_could_not_be_asked_and_the_next_one_comes_sooner() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        overloaded = IssuerUnavailable("issuer answered with status 503", delivery=Delivery.NOT_PROCESSED)
        world.authority.fail_next(overloaded, 99)
        for patience in (9, 2, 2):
            asked = child.ask_later()
            await world.clock.settle()
            await world.clock.elapse(patience - 0.1)
            assert not asked.done()
            await world.clock.elapse(0.2)
            with pytest.raises(RemoteError) as caught:
                await asked
            assert caught.value.message == "issuer answered with status 503"


async def test_a_refresh_request_for_another_workspace_is_refused_and_the_child_gets_the_new_login() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        await world.engine.complete_chatgpt_login(world.authority.issue(account_id="org-2"))
        with pytest.raises(RemoteError) as caught:
            await child.ask("org-1")
        assert "another workspace" in caught.value.message
        await child.until(lambda: child.token == world.token())


async def test_a_child_is_signed_out_at_once_while_a_refresh_request_is_open() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        world.authority.hold()
        asked = asyncio.ensure_future(child.ask())
        await world.authority.asked()
        world.engine.set_policy(Policy(forced_login_method=LoginMethod.API))
        await child.until(lambda: child.token is None)
        assert not asked.done()
        world.authority.release()
        with pytest.raises(RemoteError):
            await asked


@pytest.mark.parametrize("now_is", ["key", "nobody"])
async def test_a_refresh_request_that_comes_too_late(now_is: str) -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        child.silent |= {"account/logout", "account/login/start"}
        if now_is == "key":
            await world.engine.use_api_key(ApiKey.parse("sk-1"))
        else:
            await world.engine.log_out()
        with pytest.raises(RemoteError) as caught:
            await child.ask()
        assert ("API key" if now_is == "key" else "sign in first") in caught.value.message


async def test_a_child_that_refuses_its_tokens_or_is_silent_causes_a_warning() -> None:
    world = World(tokens())
    child = Child()
    child.refuse["account/login/start"] = "no"
    async with world.engine, world.child(child) as (link, _):
        assert world.warned == ["child_refused"]
        await pass_time(world, 5)
        assert (child.count("account/login/start"), world.warned) == (2, ["child_refused"])
        child.refuse.clear()
        await pass_time(world, 10)
        assert child.token == world.token()
        child.silent.add("account/login/start")
        await world.engine.refresh()
        await child.until(lambda: child.count("account/login/start") == 4)
        await world.clock.settle()
        world.clock.advance(10)
        await world.clock.settle()
        assert world.warned == ["child_refused", "child_silent"]
        assert await link.request("anything") == {"echo": {}}


async def pass_time(world: World, seconds: float) -> None:
    await world.clock.settle()
    world.clock.advance(seconds)
    await world.clock.settle()


async def test_a_child_that_does_not_take_its_login_gets_it_again() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        child.silent.add("account/login/start")
        await world.engine.refresh()
        await pass_time(world, 10)
        for pause in (5, 10, 20, 40, 60, 60):
            asked = child.count("account/login/start")
            await pass_time(world, pause - 1)
            assert child.count("account/login/start") == asked
            await pass_time(world, 1)
            assert child.count("account/login/start") == asked + 1
            await pass_time(world, 10)
        assert world.warned == ["child_silent"], "once, however often it is given again"
        child.silent.clear()
        await pass_time(world, 60)
        assert child.token == world.token()
        taken = child.count("account/login/start")
        await pass_time(world, 600)
        assert child.count("account/login/start") == taken
        child.silent.add("account/login/start")
        await world.engine.refresh()
        await pass_time(world, 10)
        await pass_time(world, 5)
        assert child.count("account/login/start") == taken + 2, "the pauses begin anew"
    assert world.warned == ["child_silent", "child_silent"]


async def test_a_child_that_has_too_many_requests_is_asked_again_while_others_wait() -> None:
    world, others = World(tokens()), Others()
    async with world.engine, world.child() as (link, child):
        link._token_sync._others._holdable = others
        child.busy = True
        await world.engine.log_out()
        for _ in range(3):
            await pass_time(world, 0.2)
        assert (others.holders, child.count("account/logout")) == (1, 4)
        child.busy = False
        await pass_time(world, 0.2)
        assert (others.holders, child.token, world.warned) == (0, None, [])


async def test_a_key_that_was_not_taken_is_sent_again_after_a_sign_out() -> None:
    world = World()
    async with world.engine, world.child() as (_, child):
        child.silent.add("account/login/start")
        await world.engine.use_api_key(ApiKey.parse("sk-1"))
        await pass_time(world, 10)
        child.silent.clear()
        await pass_time(world, 5)
        assert child.token == "sk-1"
        assert [name for name, _ in child.requests[-2:]] == ["account/logout", "account/login/start"]


async def test_newer_tokens_replace_those_that_were_not_taken() -> None:
    """After a newer login, and after the answer to a refresh request, nothing is sent a second time."""
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        for change in ("login", "refresh request"):
            child.silent.add("account/login/start")
            await world.engine.refresh()
            await pass_time(world, 10)
            child.silent.clear()
            if change == "login":
                await world.engine.complete_chatgpt_login(world.authority.issue(account_id="org-2"))
            else:
                await child.ask("org-2")
            await world.clock.settle()
            assert child.token == world.token()
            given = child.count("account/login/start")
            await pass_time(world, 100)
            assert child.count("account/login/start") == given


async def test_an_answer_replaces_what_was_about_to_be_sent_again() -> None:
    world = World()
    async with world.engine, world.child() as (_, child):
        child.silent.add("account/login/start")
        await world.engine.complete_chatgpt_login(world.authority.accept(tokens(expires_in=-60)))
        await pass_time(world, 10)
        world.authority.hold()
        asked = asyncio.ensure_future(child.ask())
        await world.authority.asked()
        await pass_time(world, 5)
        given = child.count("account/login/start")
        world.authority.release()
        assert await asked == world.token()
        await pass_time(world, 100)
        assert child.count("account/login/start") == given


async def test_nothing_is_sent_again_to_a_child_that_is_gone() -> None:
    world = World(tokens())
    async with world.engine:
        async with world.child() as (link, child):
            child.silent.add("account/login/start")
            await world.engine.refresh()
            await pass_time(world, 10)
            given = child.count("account/login/start")
            child.die()
            await link.wait_closed()
            await pass_time(world, 5)
            assert child.count("account/login/start") == given
        assert world.clock.sleepers == 0


def test_a_child_of_an_unknown_release_gets_both_dialects() -> None:
    peer = Peer(lambda _method, _params: None)
    assert TokenSync(World(tokens()).engine, peer, warn=lambda _code, _message: None)._sender.dialect is Dialect.BOTH


async def test_nothing_is_sent_to_a_child_that_ended_before_its_login_was_refreshed() -> None:
    world, peer, sent = World(tokens(expires_in=-60)), Peer(lambda _method, _params: None), Sent()
    peer.connect(sent)
    token_sync = TokenSync(world.engine, peer, warn=lambda _code, _message: None)
    async with world.engine:
        world.authority.hold()
        begun = asyncio.ensure_future(token_sync.begin())
        await world.authority.asked()
        token_sync.close()
        world.authority.release()
        await begun
        await world.engine.log_out()
        await token_sync.settled()
    assert sent == []


class Sent(list[bytes]):
    """What was written to a child that is never read."""

    def write(self, data: bytes) -> None:
        self.append(data)


class Others:
    """Requests of others to the same child."""

    def __init__(self) -> None:
        self.holders = 0
        self.holds = 0

    def hold(self) -> None:
        self.holders += 1
        self.holds += 1

    def release(self) -> None:
        self.holders -= 1
        assert self.holders >= 0


async def test_other_requests_wait_while_the_child_changes_its_account() -> None:
    world, others = World(tokens()), Others()
    async with world.engine, world.child() as (link, child):
        link._token_sync._others._holdable = others
        await world.engine.refresh()
        await child.until(lambda: child.token == world.token())
        assert others.holds == 0  # the same account, and the old token may still do
        await world.engine.complete_chatgpt_login(world.authority.accept(tokens(account_id="org-2")))
        assert others.holders == 1
        await child.until(lambda: child.token == world.token())
        await world.clock.settle()
        assert (others.holds, others.holders) == (1, 0)
        child.refuse["account/logout"] = "not now"
        await world.engine.log_out()
        await world.clock.settle()
        assert (others.holds, others.holders) == (2, 0)


async def test_other_requests_do_not_wait_for_ever_for_a_child_that_is_silent_or_gone() -> None:
    world, others = World(), Others()
    async with world.engine, world.child() as (link, child):
        link._token_sync._others._holdable = others
        child.silent.add("account/login/start")
        await world.engine.use_api_key(ApiKey.parse("sk-1"))
        await world.clock.settle()
        assert others.holders == 1
        world.clock.advance(10)
        await world.clock.settle()
        assert others.holders == 0
        await world.engine.use_api_key(ApiKey.parse("sk-2"))
        assert others.holders == 1
        child.die()
        await link.wait_closed()
        assert others.holders == 0
        await world.engine.log_out()
        assert others.holders == 0


async def test_a_policy_signs_the_children_out() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        world.engine.set_policy(Policy(forced_login_method=LoginMethod.API))
        await child.until(lambda: child.token is None)
        assert child.count("account/logout") == 1
