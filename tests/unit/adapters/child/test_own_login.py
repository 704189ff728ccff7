"""A child that opened a login of its own gets no tokens."""

import asyncio
import os
from typing import Any

import pytest
from support.child_in_memory import Child, World, tokens

from authstate.adapters.child import client
from authstate.adapters.child.client import AppServerClient, HandshakeFailed
from authstate.adapters.child.command_line import ephemeral_command
from authstate.adapters.config.home import ConfigError
from authstate.engine.model.credentials import ApiKey

NO = object()
KEY = "sk-canary-1234"


class Owner(Child):
    """A child that answers some methods in its own way, and refuses those whose answer is `NO`."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__()
        self.say = {method: answer for method, answer in answers.items() if answer is not NO}
        self.refuse |= {method: "no such method" for method, answer in answers.items() if answer is NO}

    def _handle(self, method: str, params: Any) -> object:
        usual = super()._handle(method, params)
        return self.say.get(method, usual)


class Slow(Owner):
    """Tells the kind of its login, and never its key."""

    def _handle(self, method: str, params: Any) -> object:
        if method == "getAuthStatus" and self.count(method) == 1:
            super()._handle(method, params)
            return asyncio.Event().wait()
        return super()._handle(method, params)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"getAuthStatus": {"authMethod": "chatgpt", "authToken": None}}, "chatgpt"),
        ({"getAuthStatus": {"authMethod": "apikey", "authToken": "sk-other-canary"}}, "apikey"),
        ({"getAuthStatus": {"authMethod": "personalAccessToken"}}, "personalAccessToken"),
        ({"getAuthStatus": {"authMethod": "\x1b[2J" + "x" * 900}}, "[2Jxx"),
        ({"getAuthStatus": NO, "account/read": {"account": {"type": "chatgpt", "email": "p@example.com"}}}, "chatgpt"),
        ({"getAuthStatus": NO, "account/read": {"account": {}}}, "unknown"),
    ],
)
@pytest.mark.parametrize("stored", [None, tokens(), ApiKey.parse(KEY)])
async def test_a_child_with_a_login_of_its_own_gets_no_tokens(answers: dict[str, Any], kind: str, stored: Any) -> None:
    child = Owner(answers)
    world = World(stored)
    async with world.engine:
        with pytest.raises(HandshakeFailed) as caught:
            async with world.child(child):
                pass
    assert f"({kind}" in str(caught.value)
    assert "managed_config.toml" in str(caught.value) and "canary" not in str(caught.value)
    assert len(str(caught.value)) < 700 and str(caught.value).isprintable()
    assert child.token is None and child.count("account/logout") == 0


@pytest.mark.parametrize(
    "answers",
    [
        {"getAuthStatus": {"authMethod": None}},
        {"getAuthStatus": {}},
        {"getAuthStatus": [1]},
        {"getAuthStatus": {"authMethod": 7}},
        {"getAuthStatus": NO, "account/read": {"account": None}},
        {"getAuthStatus": NO, "account/read": "what"},
        {"getAuthStatus": NO, "account/read": NO},
    ],
)
async def test_a_child_without_one_gets_the_engines_tokens(answers: dict[str, Any]) -> None:
    child = Owner(answers)
    world = World(tokens())
    async with world.engine, world.child(child):
        assert child.token == world.token()


async def test_a_child_that_kept_our_api_key_goes_on_with_it_and_is_signed_out_later() -> None:
    child = Owner({"getAuthStatus": {"authMethod": "apikey", "authToken": KEY}})
    world = World(ApiKey.parse(KEY))
    async with world.engine, world.child(child):
        assert child.count("account/login/start") == 0
        await world.engine.log_out()
        await child.until(lambda: child.count("account/logout") == 1)


async def test_a_child_that_could_open_the_login_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def refuse(command: Any, environ: Any, ours: Any) -> None:
        asked.append((list(command), dict(environ), ours is os.environ))
        raise ConfigError("a file of the administrator")

    async def start(*words: Any, **options: Any) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(client, "refuse_pinned_store", refuse)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    async with World(tokens()).engine as engine:
        child = AppServerClient.of_command(
            engine, ["codex", "app-server"], environment={"A": "b"}, name="x", version="1"
        )
        with pytest.raises(ConfigError, match="a file of the administrator"):
            async with child:
                pass
    assert asked == [([*ephemeral_command(["codex", "app-server"])], {"A": "b"}, True)]


async def test_a_child_that_does_not_name_its_login_in_time_gets_the_engines_tokens() -> None:
    child = Owner({})
    child.silent.add("getAuthStatus")
    world = World(tokens())
    async with world.engine:
        linked = world.child(child)
        opening = asyncio.ensure_future(linked.__aenter__())
        await child.until(lambda: child.count("getAuthStatus") == 1)
        assert child.token is None
        await world.clock.settle()
        world.clock.advance(10)
        await opening
        assert child.token == world.token()
        await linked.__aexit__(None, None, None)


async def test_a_child_that_does_not_show_its_key_in_time_gets_no_tokens() -> None:
    child = Slow({"getAuthStatus": {"authMethod": "apikey", "authToken": None}})
    world = World(ApiKey.parse(KEY))
    async with world.engine:
        opening = asyncio.ensure_future(world.child(child).__aenter__())
        await child.until(lambda: child.count("getAuthStatus") == 2)
        await world.clock.settle()
        world.clock.advance(10)
        with pytest.raises(HandshakeFailed, match="login of its own"):
            await opening
    assert child.token is None


async def test_a_child_that_ends_while_it_is_asked_gets_no_tokens() -> None:
    child = Owner({})
    child.silent.add("getAuthStatus")
    world = World(tokens())
    async with world.engine:
        linked = world.child(child)
        opening = asyncio.ensure_future(linked.__aenter__())
        await child.until(lambda: child.count("getAuthStatus") == 1)
        child.die()
        await opening
        await linked.__aexit__(None, None, None)
    assert child.count("account/login/start") == 0
