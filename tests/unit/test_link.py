"""A link and a child in one process: who is handed what, and what a question costs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from authstate.adapters.jsonrpc import INTERNAL_ERROR, Peer, PeerGone, RemoteError, RpcError
from authstate.adapters.parent.child import CommandError, ephemeral_command, overrides_of
from authstate.adapters.parent.link import AppServerLink, HandshakeFailed
from authstate.adapters.testing import FakeAuthority, ManualClock, MemoryStore, make_external, make_tokens
from authstate.engine.core import AuthEngine
from authstate.engine.credentials import ApiKey, ChatgptTokens, Credentials
from authstate.engine.errors import RefreshDeadReason
from authstate.engine.policy import LoginMethod, Policy

REFRESH = "account/chatgptAuthTokens/refresh"


class Child:
    """An app-server in memory: a peer whose bytes go to and come from a link."""

    def __init__(self) -> None:
        self.peer = Peer(self._handle, self._notified)
        self.incoming = asyncio.StreamReader()
        self.requests: list[tuple[str, Any]] = []
        self.refuse: dict[str, str] = {}
        self.silent: set[str] = set()
        self.instead: object = None
        self.token: str | None = None
        self.arrived = asyncio.Event()
        self.peer.connect(self)

    # The child's side

    def _handle(self, method: str, params: Any) -> object:
        asked = msgspec.json.decode(params) if params is not None else None
        self.requests.append((method, asked))
        self.arrived.set()
        if self.instead is not None:
            return self.instead
        if method in self.silent:
            return asyncio.Event().wait()
        if method in self.refuse:
            raise RpcError(-32600, self.refuse[method])
        if method == "account/login/start":
            self.token = asked.get("accessToken") or asked["apiKey"]
        elif method == "account/logout":
            self.token = None
        return {"userAgent": "child/1"} if method == "initialize" else {"echo": asked}

    def _notified(self, method: str, params: Any) -> None:
        self.requests.append((method, None))

    async def ask(self, account: str | None = "org-1") -> str:
        """Ask for new tokens and act with them. Returns the access token."""
        params = {"reason": "unauthorized", "previousAccountId": account}
        answer = msgspec.json.decode(await self.peer.request(REFRESH, params))
        self.token = answer["accessToken"]
        return answer["accessToken"]

    def die(self) -> None:
        """Close its output, without a word."""
        self.incoming.feed_eof()

    async def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(2000):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError(f"it never came true: {self.requests}")

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.requests)

    # The streams that the link has

    def write(self, data: bytes) -> None:
        if data and not self.incoming.at_eof():
            self.incoming.feed_data(data)

    def close(self) -> None:
        self.die()


class _ToChild:
    """What the link writes to."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def write(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self.child.peer.data_received, data)

    def close(self) -> None:
        self.child.die()


class World:
    """One engine, and the children that are linked to it."""

    def __init__(self, stored: Credentials | None = None, *, policy: Policy | None = None) -> None:
        self.clock = ManualClock()
        self.authority = FakeAuthority(clock=self.clock)
        if isinstance(stored, ChatgptTokens):
            self.authority.accept(stored)
        self.store = MemoryStore(stored)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock, policy=policy)
        self.warned: list[str] = []

    @asynccontextmanager
    async def child(self, child: Child | None = None, **options: Any) -> AsyncIterator[tuple[AppServerLink, Child]]:
        child = child or Child()
        link = AppServerLink(
            self.engine,
            child.incoming,
            _ToChild(child),
            name="test",
            version="1",
            warn=lambda code, message: self.warned.append(code),
            clock=self.clock,
            **options,
        )
        async with link:
            yield link, child

    def token(self) -> str:
        credentials = self.engine.session.credentials
        assert isinstance(credentials, ChatgptTokens)
        return credentials.access_token.reveal()


def tokens(world_now: float = 1_800_000_000.0, **more: Any) -> ChatgptTokens:
    return make_tokens(now=world_now, **more)


async def test_the_child_gets_the_tokens_after_its_handshake() -> None:
    stored = tokens()
    world = World(stored)
    async with world.engine, world.child() as (link, child):
        assert [name for name, _ in child.requests] == ["initialize", "initialized", "account/login/start"]
        assert child.requests[0][1]["capabilities"] == {"experimentalApi": True}
        assert child.requests[2][1] == {
            "type": "chatgptAuthTokens",
            "idToken": stored.id_token.reveal(),
            "accessToken": stored.access_token.reveal(),
            "chatgptAccountId": "org-1",
            "chatgptPlanType": "plus",
        }
        assert link.server == {"userAgent": "child/1"}
        assert await link.request("thread/start", {"cwd": "/"}) == {"echo": {"cwd": "/"}}


async def test_nobody_signed_in_hands_nothing_over() -> None:
    world = World()
    async with world.engine, world.child() as (_, child):
        assert [name for name, _ in child.requests] == ["initialize", "initialized"]
        await world.engine.use_api_key(ApiKey.parse("sk-1"))
        await child.until(lambda: child.token == "sk-1")


async def test_an_expired_login_is_refreshed_before_it_is_handed_over() -> None:
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
            world.engine.use_external_tokens(make_external()),
            world.engine.log_out(),
        ):
            await change
            held = world.engine.session.credentials
            wanted = None if held is None else held.key if isinstance(held, ApiKey) else held.access_token
            for child in (one, other):
                await child.until(lambda child=child, wanted=wanted: child.token == (wanted and wanted.reveal()))
        assert one.token is None
        # A key is taken only by a child that was signed out before.
        assert one.count("account/logout") == 2


async def test_a_dead_refresh_token_is_an_error_that_says_what_to_do() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        world.authority.kill(RefreshDeadReason.REVOKED)
        for _ in range(2):
            with pytest.raises(RemoteError) as caught:
                await child.ask()
            assert caught.value.code == INTERNAL_ERROR
            assert "revoked" in caught.value.message and "Sign in again" in caught.value.message
        assert len(world.authority.sent) == 1


async def test_a_refresh_that_takes_too_long_is_answered_in_time_and_handed_over_later() -> None:
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


async def test_a_question_about_another_workspace_is_refused_and_the_new_login_is_handed_over() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        await world.engine.complete_chatgpt_login(world.authority.issue(account_id="org-2"))
        with pytest.raises(RemoteError) as caught:
            await child.ask("org-1")
        assert "another workspace" in caught.value.message
        await child.until(lambda: child.token == world.token())


@pytest.mark.parametrize("now_is", ["key", "nobody"])
async def test_a_question_that_comes_too_late(now_is: str) -> None:
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


async def test_a_child_that_refuses_its_tokens_or_is_silent_is_warned_of() -> None:
    world = World(tokens())
    child = Child()
    child.refuse["account/login/start"] = "no"
    async with world.engine, world.child(child) as (link, _):
        assert world.warned == ["child_refused"]
        child.refuse.clear()
        child.silent.add("account/login/start")
        await world.engine.refresh()
        await child.until(lambda: child.count("account/login/start") == 2)
        await world.clock.settle()
        world.clock.advance(10)
        await world.clock.settle()
        assert world.warned == ["child_refused", "child_silent"]
        assert await link.request("anything") == {"echo": {}}


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


async def test_others_wait_while_the_child_changes_its_account() -> None:
    world, others = World(tokens()), Others()
    async with world.engine, world.child() as (link, child):
        link._handover._others = others
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


async def test_others_do_not_wait_for_ever_for_a_child_that_is_silent_or_gone() -> None:
    world, others = World(), Others()
    async with world.engine, world.child() as (link, child):
        link._handover._others = others
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


async def test_what_the_application_asks_during_a_change_finds_the_new_account() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (link, child):
        await world.engine.complete_chatgpt_login(world.authority.accept(tokens(account_id="org-2")))
        await link.request("thread/start")
        names = [name for name, _ in child.requests]
        assert names[-2:] == ["account/login/start", "thread/start"]
        assert child.token == world.token()


async def test_a_question_that_is_open_at_the_end_is_refused() -> None:
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
    async with world.engine, world.child(notified=lambda method, params: heard.append((method, params))) as (_, child):
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


async def test_a_child_that_dies_takes_nothing_with_it() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (link, child), world.child() as (_, survivor):
        world.authority.hold()
        asked = asyncio.ensure_future(child.ask())
        await world.authority.asked()
        child.die()
        await link.wait_closed()
        with pytest.raises(PeerGone):
            await link.request("thread/start")
        link.notify("nobody/hears")
        world.authority.release()
        await survivor.until(lambda: survivor.token == world.token())
        asked.cancel()
        assert await survivor.ask() == world.token()
        assert len(world.authority.sent) == 1
        assert world.warned == []


async def test_what_a_child_says_reaches_the_application() -> None:
    world, told = World(), []
    child = Child()

    def answer(method: str, params: Any) -> object:
        return {"decision": params["ask"]}

    async with (
        world.engine,
        world.child(child, answer=answer, notified=lambda method, params: told.append((method, params))),
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


async def test_a_policy_takes_the_tokens_from_the_children() -> None:
    world = World(tokens())
    async with world.engine, world.child() as (_, child):
        world.engine.set_policy(Policy(forced_login_method=LoginMethod.API))
        await child.until(lambda: child.token is None)
        assert child.count("account/logout") == 1


def test_the_setting_goes_before_app_server() -> None:
    setting = 'cli_auth_credentials_store="ephemeral"'
    assert ephemeral_command(["npx", "codex", "app-server"]) == ["npx", "codex", "-c", setting, "app-server"]
    rest = ["app-server", "-cb=2", "--config", "c=3"]
    command = ["codex", "-c", "cli_auth_credentials_store=keyring", "--config=a=1", *rest]
    assert ephemeral_command(command) == ["codex", "--config=a=1", "-c", setting, *rest]
    assert overrides_of(command) == ["cli_auth_credentials_store=keyring", "a=1", "b=2", "c=3"]
    with pytest.raises(CommandError):
        ephemeral_command(["codex", "exec"])
