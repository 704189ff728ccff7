"""A client and a child in one process: the handshake, requests in both directions, and every way to end."""

import asyncio
from typing import Any

import msgspec
import pytest
from support.child_in_memory import Child, World, tokens

from authstate.adapters.child.client import HandshakeFailed
from authstate.adapters.child.command_line import CommandError, ephemeral_command, overrides_of
from authstate.adapters.jsonrpc.peer import PeerClosed, RemoteError
from authstate.engine.model.errors import RefreshDeadReason


async def test_the_child_gets_the_tokens_after_its_handshake() -> None:
    stored = tokens()
    world = World(stored)
    async with world.engine, world.child() as (link, child):
        assert [name for name, _ in child.requests] == [
            "initialize",
            "initialized",
            "getAuthStatus",
            "account/login/start",
        ]
        assert child.requests[0][1]["capabilities"] == {"experimentalApi": True}
        assert child.requests[3][1] == {
            "type": "chatgptAuthTokens",
            "idToken": stored.id_token.reveal(),
            "accessToken": stored.access_token.reveal(),
            "chatgptAccountId": "org-1",
            "chatgptPlanType": "plus",
        }
        assert link.server == {"userAgent": "child/1"}
        assert await link.request("thread/start", {"cwd": "/"}) == {"echo": {"cwd": "/"}}


async def test_a_request_during_a_change_is_made_with_the_new_account() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (link, child):
        await world.engine.complete_chatgpt_login(world.authority.accept(tokens(account_id="org-2")))
        await link.request("thread/start")
        names = [name for name, _ in child.requests]
        assert names[-2:] == ["account/login/start", "thread/start"]
        assert child.token == world.token()


async def test_a_refresh_request_that_is_open_at_the_end_is_refused() -> None:
    world = World(tokens())
    async with world.engine:
        async with world.child() as (link, child):
            world.authority.hold()
            asked = asyncio.ensure_future(child.ask())
            await world.authority.asked()
            closing = asyncio.ensure_future(link.close())
            with pytest.raises(RemoteError):
                await asked
            await closing
        world.authority.release()


async def test_a_turn_that_failed_for_want_of_tokens_says_why() -> None:
    heard: list[Any] = []
    world = World(tokens())
    told = {"error": {"message": "auth refresh request failed: code=-32603", "codexErrorInfo": "other"}}
    async with (
        world.engine,
        world.child(on_notification=lambda method, params: heard.append((method, params))) as (_, child),
    ):
        child.peer.notify("error", told)
        await child.until(lambda: len(heard) == 1)
        world.authority.kill(RefreshDeadReason.REVOKED)
        with pytest.raises(RemoteError):
            await child.ask()
        for method in ("error", "item/completed"):
            child.peer.notify(method, told)
        await child.until(lambda: len(heard) == 3)
    assert heard[0] == ("error", told)
    assert "authstate login" in heard[1][1]["error"]["message"]
    assert heard[2] == ("item/completed", told)


async def test_the_end_of_a_child_affects_no_other() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (link, child), world.child() as (_, survivor):
        world.authority.hold()
        asked = asyncio.ensure_future(child.ask())
        await world.authority.asked()
        child.die()
        await link.wait_closed()
        with pytest.raises(PeerClosed):
            await link.request("thread/start")
        link.notify("nobody/hears")
        world.authority.release()
        await survivor.until(lambda: survivor.token == world.token())
        asked.cancel()
        assert await survivor.ask() == world.token()
        assert len(world.authority.sent) == 1
        assert world.warned == []


async def test_notifications_and_requests_of_a_child_reach_the_application() -> None:
    world, told = World(), []
    child = Child()

    def answer(method: str, params: Any) -> object:
        return {"decision": params["ask"]}

    async with (
        world.engine,
        world.child(child, on_request=answer, on_notification=lambda method, params: told.append((method, params))),
    ):
        child.peer.notify("turn/started", {"turn": 1})
        child.peer.notify("turn/empty", None)
        asked = await child.peer.request("item/commandExecution/requestApproval", {"ask": "yes"})
        assert msgspec.json.decode(asked) == {"decision": "yes"}
        assert told == [("turn/started", {"turn": 1}), ("turn/empty", None)]
    async with World().engine as engine:
        plain = World()
        plain.engine = engine
        other = Child()
        async with plain.child(other):
            with pytest.raises(RemoteError) as caught:
                await other.peer.request("item/tool/call", {})
            assert "does not answer item/tool/call" in caught.value.message


@pytest.mark.parametrize("how", ["dies", "silent", "refuses", "no object"])
async def test_a_handshake_that_fails(how: str) -> None:
    world, child = World(), Child()
    if how == "silent":
        child.silent.add("initialize")
    elif how == "refuses":
        child.refuse["initialize"] = "no"
    elif how == "no object":
        child.instead = 7
    async with world.engine:

        async def connect() -> None:
            async with world.child(child):
                raise AssertionError("it must not open")

        opening = asyncio.ensure_future(connect())
        await world.clock.until_asleep()
        if how == "dies":
            child.die()
        elif how == "silent":
            world.clock.advance(30)
        with pytest.raises(HandshakeFailed):
            await opening


def test_the_setting_goes_before_app_server() -> None:
    setting = 'cli_auth_credentials_store="ephemeral"'
    assert ephemeral_command(["npx", "codex", "app-server"]) == ["npx", "codex", "-c", setting, "app-server"]
    rest = ["app-server", "-cb=2", "--config", "c=3"]
    command = ["codex", "-c", "cli_auth_credentials_store=keyring", "--config=a=1", *rest]
    assert ephemeral_command(command) == ["codex", "--config=a=1", "-c", setting, *rest]
    assert overrides_of(command) == ["cli_auth_credentials_store=keyring", "a=1", "b=2", "c=3"]
    with pytest.raises(CommandError):
        ephemeral_command(["codex", "exec"])
