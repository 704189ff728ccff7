"""Which token a refresh request is about, and how many refreshes one child may cause."""

from typing import Any

import pytest
from support.child_in_memory import World, tokens

from authstate.adapters.child.held_token import CROSSING, LATE
from authstate.adapters.child.refresh_requests import MAX_REFRESHES, PERIOD
from authstate.adapters.jsonrpc.peer import RemoteError
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import IssuerUnavailable


def access_token_of(engine: AuthEngine) -> str:
    """The access token of a managed login."""
    assert isinstance(engine.session.credentials, ChatgptTokens)
    return engine.session.credentials.access_token.reveal()


async def test_two_turns_whose_second_refusal_is_late_cost_one_refresh() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        await child.begin("thread-1", "thread-2")
        first = await child.ask()
        world.clock.advance(1)
        assert await child.ask() == first
        assert len(world.authority.sent) == 1
        assert await child.ask() != first, "each of the two turns asks once about the old token"
        assert len(world.authority.sent) == 2


async def test_a_turn_that_starts_after_the_answer_asks_about_the_new_token() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        await child.begin("thread-1")
        first = await child.ask()
        await child.begin("thread-2")
        world.clock.advance(1)
        assert await child.ask() != first


async def test_a_turn_that_ended_asks_nothing_more() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        await child.begin("thread-1", "thread-2")
        await child.finish("thread-2")
        first = await child.ask()
        world.clock.advance(1)
        assert await child.ask() != first


async def test_a_turn_that_ended_without_asking_leaves_no_late_request() -> None:
    """Its thread may run another turn within the ten seconds, which asks about the new token."""
    world = World(tokens())
    async with world.engine, world.child() as (link, child):
        await child.begin("thread-1")
        await world.engine.refresh()
        await link._token_sync.settled()
        first = access_token_of(world.engine)
        await child.finish("thread-1")
        await child.begin("thread-1")
        world.clock.advance(1)
        assert await child.ask() != first
        assert len(world.authority.sent) == 2


async def test_after_ten_seconds_a_request_is_about_the_new_token() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        await child.begin("thread-1", "thread-2")
        first = await child.ask()
        world.clock.advance(LATE)
        assert await child.ask() != first


async def test_turns_ask_about_the_tokens_that_they_started_with() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        await child.begin("thread-1")
        await world.engine.refresh()
        await child.until(lambda: child.token == world.token())
        await world.clock.settle()
        world.clock.advance(1)
        assert await child.ask() == world.token()
        assert len(world.authority.sent) == 1


async def test_notifications_that_are_not_about_turns_are_ignored() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (link, child):
        for params in (None, 7, {"threadId": 7}, {}):
            child.peer.notify("turn/started", params)
        child.peer.notify("thread/started", {"threadId": "thread-9"})
        await child.finish("thread-8")
        await world.clock.settle()
        assert link._token_sync.is_idle
        await child.begin(*(f"thread-{number}" for number in range(3000)))
        assert not link._token_sync.is_idle
        assert len(link._token_sync._turns) < 3000


async def test_a_child_that_asks_again_and_again_spends_a_limited_number_of_refresh_tokens() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        for _ in range(MAX_REFRESHES):
            await child.ask()
            world.clock.advance(2 * CROSSING)
        for _ in range(50):
            with pytest.raises(RemoteError) as caught:
                await child.ask()
            world.clock.advance(2 * CROSSING)
        assert len(world.authority.sent) == MAX_REFRESHES
        assert f"{MAX_REFRESHES} times within {PERIOD:g} seconds" in caught.value.message
        assert "wait" in caught.value.message
        world.clock.advance(PERIOD)
        await child.ask()
        assert len(world.authority.sent) == MAX_REFRESHES + 1


async def test_each_child_has_a_budget_of_its_own() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, greedy), world.child() as (_, other):
        for _ in range(MAX_REFRESHES):
            await greedy.ask()
            world.clock.advance(2 * CROSSING)
        with pytest.raises(RemoteError):
            await greedy.ask()
        await world.clock.settle()
        world.clock.advance(1)
        assert await other.ask() == world.token()


async def test_the_error_for_a_slow_refresh_says_what_the_issuer_answered() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        fault = IssuerUnavailable("auth.example answered with status 503", retry_after=20.0)
        world.authority.fail_next(fault)
        asked = child.ask_later()
        await world.authority.asked()
        await world.clock.settle()
        world.clock.advance(9)
        with pytest.raises(RemoteError) as caught:
            await asked
        assert "status 503" in caught.value.message


async def test_an_idle_child_gets_the_tokens_that_another_process_stored() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (link, child), world.elsewhere() as other:
        await child.begin("thread-1")
        await other.refresh()
        await world.engine.follow(adopt=link._token_sync.is_idle)
        assert child.token != access_token_of(other)
        await child.finish("thread-1")
        for _ in range(2):
            await world.engine.follow(adopt=link._token_sync.is_idle)
        await child.until(lambda: child.token == access_token_of(other))
        assert len(world.authority.sent) == 1


@pytest.mark.parametrize("other", [{"user_id": "user-2"}, {"account_id": "org-2"}], ids=["user", "workspace"])
async def test_a_request_about_one_account_is_not_answered_with_a_token_of_another(other: dict[str, Any]) -> None:
    """The child has not taken the new account yet. Two people of one workspace are two accounts."""
    first, second = tokens(), tokens(**other)
    world = World(first)
    world.authority.accept(second)
    async with world.engine, world.child() as (_, child):
        child.silent.add("account/login/start")
        await world.engine.complete_chatgpt_login(second)
        with pytest.raises(RemoteError) as refused:
            await child.ask()
        assert "is signed in now: try again" in refused.value.message
        assert child.token == first.access_token.reveal()
        assert world.authority.sent == [], "nothing is spent for it"


async def test_turns_of_the_account_before_are_not_late_with_the_tokens_of_the_next() -> None:
    world, second = World(tokens()), tokens(user_id="user-2")
    world.authority.accept(second)
    async with world.engine, world.child() as (link, child):
        await child.begin("thread-1", "thread-2")
        await world.engine.complete_chatgpt_login(second)
        await link._token_sync.settled()
        assert child.token == second.access_token.reveal()
        world.clock.advance(1)
        assert await child.ask() != second.access_token.reveal(), "the request is about the token that it holds"
