"""The account API over a peer in memory: the handshake, what is refused, and the methods that read."""

import asyncio
import gc
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.account_client import KEY, Client, ready

from authstate.adapters.oauth.device_endpoint import HttpDeviceEndpoint
from authstate.engine.model.account import Account as Owner
from authstate.engine.model.account import PlanType
from authstate.engine.model.credentials import PersonalAccessToken
from authstate.engine.model.errors import (
    IssuerUnavailable,
    RefreshDeadReason,
    TokenRefused,
)
from authstate.engine.version import VERSION
from authstate.testing import ManualClock, make_tokens

# The handshake


def test_the_version_is_the_distributions() -> None:
    assert version("authstate") == VERSION


async def test_initialize_names_the_client_and_the_place() -> None:
    result = await Client().initialize()
    assert result["userAgent"].startswith(f"ide/{VERSION} (")
    assert result["userAgent"].endswith(") authstate (ide; 9.1)")
    assert result["codexHome"] == str(Path("/home/of/codex"))
    assert result["platformFamily"] in ("unix", "windows")
    assert result["platformOs"]


async def test_nothing_goes_before_initialize_and_it_goes_once() -> None:
    client = Client()
    assert await client.refused("account/read", {}) == "Not initialized"
    assert await client.refused("nope", {}) == "Not initialized"
    assert "version" in await client.refused("initialize", {"clientInfo": {"name": "x"}})
    await client.initialize()
    assert await client.refused("initialize", {"clientInfo": {"name": "x", "version": "1"}}) == "Already initialized"
    await client.result("account/read")
    await client.result("account/read")
    assert client.opened == 1


async def test_what_comes_with_initialize_in_one_write_is_answered_in_order() -> None:
    client = Client(KEY)
    hello = {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "x", "version": "1"}}}
    requests = [{"id": n, "method": "account/read"} for n in range(2, 50)]
    client.peer.data_received(b"".join(msgspec.json.encode(m) + b"\n" for m in [hello, *requests]))
    await client.until(lambda m: m.get("id") == 49)
    assert [m["id"] for m in client.messages] == list(range(1, 49))


async def test_an_opening_that_fails_is_told_and_tried_again() -> None:
    client = Client(KEY)
    client.fail_open = OSError("/a/path")
    await client.initialize()
    answer = await client.call("account/read")
    assert answer["error"] == {"code": -32603, "message": "the account cannot be opened (OSError)"}
    client.fail_open = None
    assert (await client.result("account/read"))["account"] == {"type": "apiKey"}


@pytest.mark.parametrize("turns", range(6))
async def test_a_request_that_comes_in_any_turn_of_the_opening_does_not_open_a_second_account(turns: int) -> None:
    client = Client(KEY)
    await client.initialize()
    for _ in range(turns):
        await asyncio.sleep(0)
    assert (await client.result("account/read"))["account"] == {"type": "apiKey"}
    assert client.opened == 1


async def test_an_opening_that_fails_before_anybody_asks_is_no_fault_of_the_loop(faults: list[Any]) -> None:
    client = Client(KEY)
    client.fail_open = OSError("/a/path")
    await client.initialize()
    await asyncio.sleep(0)  # the opening begins
    await client.handshake.account.opening_ended()
    assert client.opened == 1
    del client
    gc.collect()
    assert faults == []


async def test_a_login_as_the_first_request_keeps_nobody_waiting_for_the_issuer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask(_: HttpDeviceEndpoint) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(HttpDeviceEndpoint, "request", ask)
    client = Client()
    introduction = {"id": "hello", "method": "initialize", "params": {"clientInfo": {"name": "ide", "version": "1"}}}
    first = {"id": "first", "method": "account/login/start", "params": {"type": "chatgptDeviceCode"}}
    client.peer.data_received(b"".join(msgspec.json.encode(message) + b"\n" for message in (introduction, first)))
    assert (await client.result("account/read", {}))["account"] is None
    await client.engine.close()
    assert "this login was ended" in (await client.until(lambda m: m.get("id") == "first"))["error"]["message"]


async def test_methods_that_are_unknown_are_refused() -> None:
    client = await ready()
    assert "unknown method" in await client.refused("thread/start", {})


async def test_what_comes_after_the_end_of_the_engine_is_told_so(faults: list[Any]) -> None:
    client = await ready()
    await client.engine.close()
    for method in ("account/read", "getAuthStatus"):
        error = (await client.call(method))["error"]
        assert error == {"code": -32603, "message": "this engine was closed: make a new one"}
    assert faults == []


# account/read


async def test_account_read_shows_each_kind_of_login() -> None:
    client = await ready()
    assert await client.result("account/read") == {"account": None, "requiresOpenaiAuth": True}
    client = await ready(KEY)
    assert await client.result("account/read", {}) == {"account": {"type": "apiKey"}, "requiresOpenaiAuth": True}
    client = await ready(make_tokens(plan="HC", now=ManualClock().now()))
    shown = {"type": "chatgpt", "email": "person@example.com", "planType": "enterprise"}
    assert (await client.result("account/read", None))["account"] == shown


PERSONAL = PersonalAccessToken.read("at-1")
OWNER = Owner(email="person@example.com", plan_type=PlanType.PRO, account_id="org-1", user_id="user-1")


async def test_a_personal_access_token_shows_its_owner_and_never_itself() -> None:
    """As codex answers: tests/interop/test_personal_token.py."""
    client = Client(PERSONAL)
    client.authority.owners["at-1"] = OWNER
    await client.initialize()
    for method, params in (("getAuthStatus", {"includeToken": True}), ("account/read", {"refreshToken": True})):
        answer = await client.result(method, params)
        assert "at-1" not in str(answer)
    assert (await client.result("getAuthStatus", {"includeToken": True}))["authMethod"] == "personalAccessToken"
    shown = {"type": "chatgpt", "email": "person@example.com", "planType": "pro"}
    assert (await client.result("account/read"))["account"] == shown
    assert await client.result("account/rateLimits/read") == {"rateLimits": {}}
    assert len(client.authority.identified) == 1
    await client.result("account/logout")
    assert client.store.credentials is None


@pytest.mark.parametrize("outcome", [TokenRefused("no"), IssuerUnavailable("down")], ids=["refused", "down"])
async def test_nobody_is_shown_while_its_owner_is_not_known(outcome: Exception) -> None:
    client = Client(PERSONAL)
    client.authority.owners["at-1"] = outcome
    await client.initialize()
    for _ in range(2):
        assert (await client.result("account/read"))["account"] is None
        assert (await client.result("getAuthStatus", {}))["authMethod"] is None
    assert len(client.authority.identified) == 1
    client.authority.owners["at-1"] = OWNER
    client.clock.advance(31)
    assert (await client.result("account/read"))["account"]["planType"] == "pro"


async def test_account_read_with_a_usable_token_is_answered_before_the_read_returns() -> None:
    client = await ready(make_tokens(now=ManualClock().now()))
    await client.result("account/read")
    client.send({"id": 99, "method": "account/read", "params": {}})
    assert client.messages[-1]["id"] == 99


async def test_a_provider_without_openai_auth_shows_no_account() -> None:
    client = await ready(KEY, requires_openai_auth=False)
    assert await client.result("account/read") == {"account": None, "requiresOpenaiAuth": False}
    status = await client.result("getAuthStatus", {"includeToken": True})
    assert status == {"authMethod": None, "authToken": None, "requiresOpenaiAuth": False}


async def test_refresh_token_true_refreshes_and_a_dead_token_shows_no_account_from_then_on() -> None:
    client = Client()
    tokens = client.authority.issue()
    client.store.credentials = tokens
    await client.initialize()
    assert (await client.result("account/read", {"refreshToken": True}))["account"] is not None
    assert len(client.authority.sent) == 1
    client.authority.kill(RefreshDeadReason.EXPIRED)
    nobody = {"account": None, "requiresOpenaiAuth": True}
    assert await client.result("account/read", {"refreshToken": True}) == nobody
    assert await client.result("account/read", {"refreshToken": True}) == nobody
    assert await client.result("account/read", {}) == nobody
    assert len(client.authority.sent) == 2
    status = await client.result("getAuthStatus", {"includeToken": True})
    assert status == {"authMethod": "chatgpt", "authToken": None, "requiresOpenaiAuth": True}
    client.clock.advance(7200)
    status = await client.result("getAuthStatus", {"includeToken": True, "refreshToken": True})
    assert status == {"authMethod": "chatgpt", "authToken": None, "requiresOpenaiAuth": True}
    assert len(client.authority.sent) == 2


@pytest.mark.parametrize("method", ["account/read", "getAuthStatus"])
async def test_while_the_issuer_does_not_answer_what_is_known_is_answered_within_two_seconds(method: str) -> None:
    client = Client()
    client.store.credentials = client.authority.issue()
    await client.initialize()
    client.authority.hold()
    asked = asyncio.create_task(client.result(method, {"refreshToken": True}))
    await client.authority.asked()
    await client.clock.elapse(2.1)
    answer = await asked
    assert answer.get("authMethod", "chatgpt") == "chatgpt"
    assert answer.get("account", {"type": "chatgpt"})["type"] == "chatgpt"
    assert client.engine.session.generation == 1
    client.authority.release()
    await client.clock.settle()
    assert client.engine.session.generation == 2


async def test_a_token_that_is_dead_on_arrival_shows_no_account() -> None:
    client = Client()
    client.store.credentials = client.authority.issue()
    client.clock.advance(7200)
    client.authority.kill()
    await client.initialize()
    assert await client.result("account/read", {}) == {"account": None, "requiresOpenaiAuth": True}
    status = await client.result("getAuthStatus", {"includeToken": True})
    assert status == {"authMethod": "chatgpt", "authToken": None, "requiresOpenaiAuth": True}
    assert len(client.authority.sent) == 1


async def test_an_expired_token_is_refreshed_by_the_first_look() -> None:
    client = Client()
    client.store.credentials = client.authority.issue()
    client.clock.advance(7200)
    await client.initialize()
    status = await client.result("getAuthStatus", {"includeToken": True})
    assert status["authToken"] == client.authority.grants[0].access_token.reveal()


async def test_a_refresh_that_fails_for_now_leaves_the_account_shown() -> None:
    client = Client()
    client.store.credentials = client.authority.issue()
    await client.initialize()
    client.authority.fail_next(IssuerUnavailable("down", retry_after=1000), times=20)
    assert (await client.result("account/read", {"refreshToken": True}))["account"]["type"] == "chatgpt"


async def test_auth_status_keeps_the_token_unless_it_is_asked_for() -> None:
    client = await ready(KEY)
    assert (await client.result("getAuthStatus"))["authToken"] is None
    assert (await client.result("getAuthStatus", {"includeToken": None}))["authMethod"] == "apikey"
    assert (await client.result("getAuthStatus", {"includeToken": True}))["authToken"] == "sk-test"


# Rate limits


async def test_rate_limits_need_a_chatgpt_account() -> None:
    assert "sign in" in await (await ready()).refused("account/rateLimits/read")
    assert "API key" in await (await ready(KEY)).refused("account/rateLimits/read")
    client = await ready(make_tokens(now=ManualClock().now()))
    assert await client.result("account/rateLimits/read") == {"rateLimits": {}}


async def test_rate_limits_that_cannot_be_read_are_an_internal_failure() -> None:
    def fail() -> object:
        raise IssuerUnavailable("the issuer is down")

    client = await ready(make_tokens(now=ManualClock().now()), rate_limits=fail)
    error = (await client.call("account/rateLimits/read"))["error"]
    assert error == {"code": -32603, "message": "the issuer is down"}
