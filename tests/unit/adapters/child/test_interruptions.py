"""A turn that a sign-in or a sign-out ended says so, in a message for the person."""

import msgspec
import pytest
from msgspec import Raw
from support.child_in_memory import Child, World, tokens

from authstate.adapters.child.failed_turns import Explanation, FailureCause, thread_of
from authstate.adapters.child.token_sync import TokenSync
from authstate.engine.engine import AuthEngine
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ApiKey, PersonalAccessToken
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.testing import make_tokens


def params(thread: str) -> Raw:
    return Raw(msgspec.json.encode({"threadId": thread}))


def why(token_sync: TokenSync, thread: str) -> Explanation | None:
    return token_sync.explain_failure(FailureCause.LOGIN_CHANGED, params(thread))


async def sign_out(engine: AuthEngine) -> None:
    await engine.log_out()


async def sign_in_with_a_key(engine: AuthEngine) -> None:
    await engine.use_api_key(ApiKey.parse("sk-another-1"))


async def sign_in_with_a_personal_token(engine: AuthEngine) -> None:
    await engine.use_api_key(PersonalAccessToken.read("at-1"))


async def sign_in_as_another(engine: AuthEngine) -> None:
    await engine.complete_chatgpt_login(make_tokens(email="second@example.com", account_id="org-2"))


async def forbid(engine: AuthEngine) -> None:
    engine.set_policy(Policy(forced_login_method=LoginMethod.API))


CHANGES = {
    "signed out": (sign_out, "signed out", "Sign in, then send", True),
    "a key": (sign_in_with_a_key, "an API key", "Send the message again", False),
    "a personal token": (sign_in_with_a_personal_token, "A personal access token", "Start it again", True),
    "another account": (sign_in_as_another, "second@example.com", "Send the message again", False),
    "forbidden": (forbid, "forced_login_method", "", True),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_the_turns_that_ran_say_what_happened(name: str) -> None:
    change, what, remedy, needs_login = CHANGES[name]
    world, child = World(tokens()), Child("test/0.169.0 (Linux)")
    world.authority.owners["at-1"] = Account(account_id="org-2")
    async with world.engine, world.child(child) as (link, _):
        token_sync = link._token_sync
        await child.begin("running")
        assert why(token_sync, "running") is None
        await change(world.engine)
        world.clock.advance(3600)  # a turn that waits for a tool notices late
        told = why(token_sync, "running")
        assert told is not None
        assert what in told.message
        assert remedy in told.message
        assert "sk-another" not in told.message
        assert told.needs_login is needs_login
        assert why(token_sync, "begun later") is None


async def test_a_turn_that_was_about_to_start_says_so_too() -> None:
    world, child = World(tokens()), Child("test/0.169.0 (Linux)")
    async with world.engine, world.child(child) as (link, _):
        await world.engine.log_out()
        assert why(link._token_sync, "started just now") is not None
        world.clock.advance(11)
        assert why(link._token_sync, "started just now") is None


async def test_new_tokens_of_the_same_account_interrupt_nothing() -> None:
    world, child = World(tokens()), Child("test/0.169.0 (Linux)")
    async with world.engine, world.child(child) as (link, _):
        await child.begin("running")
        await world.engine.refresh()
        assert why(link._token_sync, "running") is None


@pytest.mark.parametrize("said", [b"7", b"[]", b"{}", b'{"threadId": 7}', b'{"threadId": null}', b"[" * 100_000])
def test_a_notification_that_names_no_thread(said: bytes) -> None:
    assert thread_of(Raw(said)) is None
