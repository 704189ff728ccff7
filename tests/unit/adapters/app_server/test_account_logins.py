"""The account API over a peer in memory: logins and logouts, what refuses them, and the order of messages."""

from typing import Any

import msgspec
import pytest
from support.account_client import Client, external_jwt, ready

from authstate.engine.model.policy import LoginMethod, Policy
from authstate.testing import make_jwt

# Logging in and out


async def test_a_login_is_answered_then_completed_then_updated() -> None:
    client = await ready()
    client.send({"id": "in", "method": "account/login/start", "params": {"type": "apiKey", "apiKey": " sk-a\n"}})
    client.send({"id": "out", "method": "account/logout"})
    client.send({"id": "read", "method": "account/read"})
    read = await client.until(lambda m: m.get("id") == "read")
    assert read["result"]["account"] is None
    assert client.messages == [
        {"id": "in", "result": {"type": "apiKey"}},
        {"method": "account/login/completed", "params": {"loginId": None, "success": True, "error": None}},
        {"method": "account/updated", "params": {"authMode": "apikey", "planType": None}},
        {"id": "out", "result": {}},
        {"method": "account/updated", "params": {"authMode": None, "planType": None}},
    ]
    assert (client.store.saves, client.store.deletes) == (1, 1)


async def test_notifications_that_the_client_opted_out_of_are_not_sent() -> None:
    client = Client()
    await client.initialize(optOutNotificationMethods=["account/updated"], experimentalApi=True)
    await client.result("account/login/start", {"type": "apiKey", "apiKey": "sk-a"})
    await client.until(lambda m: m.get("method") == "account/login/completed")
    await client.result("account/logout", {})
    assert client.messages == []


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (
            {"idToken": external_jwt(email="a@b.c"), "accessToken": "opaque"},
            {"email": "a@b.c", "planType": "pro"},
        ),
        (
            {"accessToken": external_jwt(email="a@b.c"), "chatgptAccountId": "org-1", "chatgptPlanType": None},
            {"email": "a@b.c", "planType": "pro"},
        ),
        (
            {"accessToken": external_jwt(), "chatgptAccountId": "org-1", "chatgptPlanType": "Education", "new": 1},
            {"email": None, "planType": "edu"},
        ),
        (
            {
                "idToken": make_jwt(email="x@y.z"),
                "accessToken": "opaque",
                "chatgptAccountId": "org-1",
                "chatgptPlanType": "odd",
            },
            {"email": "x@y.z", "planType": "unknown"},
        ),
    ],
)
async def test_external_tokens_in_both_dialects(tokens: dict[str, Any], shown: dict[str, Any]) -> None:
    client = await ready()
    params = {"type": "chatgptAuthTokens"} | tokens
    assert await client.result("account/login/start", params) == {"type": "chatgptAuthTokens"}
    updated = {"authMode": "chatgptAuthTokens", "planType": shown["planType"]}
    assert (await client.until(lambda m: m.get("method") == "account/updated"))["params"] == updated
    account = (await client.result("account/read", {"refreshToken": True}))["account"]
    assert account == {"type": "chatgpt"} | shown
    status = await client.result("getAuthStatus", {"includeToken": True})
    assert status["authMethod"] == "chatgptAuthTokens"
    assert status["authToken"] == tokens["accessToken"]
    assert client.store.saves == 0


@pytest.mark.parametrize(
    "login",
    [
        {"type": "chatgpt"},
        {"type": "chatgptDeviceCode"},
        {"type": "apiKey", "apiKey": "sk-a"},
    ],
)
async def test_logins_are_refused_while_external_tokens_are_active(login: dict[str, Any]) -> None:
    client = await ready()
    external = {"type": "chatgptAuthTokens", "accessToken": external_jwt(), "chatgptAccountId": "org-1"}
    await client.result("account/login/start", external)
    assert "log out first" in await client.refused("account/login/start", login)
    await client.result("account/login/start", external)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"type": "apiKey"}, "apiKey"),
        ({"type": "apiKey", "apiKey": 5}, "apiKey"),
        ({"type": "apiKey", "apiKey": " \n"}, "API key"),
        ({"type": "apiKey", "apiKey": "a b"}, "API key"),
        ({}, "type"),
        (msgspec.UNSET, "type"),
        (None, "type"),
        ([], "object"),
        ({"type": "canary-token"}, "`apiKey`, `chatgpt`, `chatgptDeviceCode`, `chatgptAuthTokens`"),
        ({"type": 1}, "type"),
        ({"type": "chatgptAuthTokens", "idToken": "a"}, "accessToken"),
        ({"type": "chatgptAuthTokens", "accessToken": "canary-token"}, "chatgptAccountId"),
        ({"type": "chatgptAuthTokens", "accessToken": "canary-token", "chatgptAccountId": "o"}, "access token"),
        ({"type": "chatgptAuthTokens", "accessToken": "canary-token", "idToken": "canary-token"}, "id token"),
        ({"type": "chatgptAuthTokens", "accessToken": "canary-token", "chatgptAccountId": ["o"]}, "chatgptAccountId"),
    ],
)
async def test_a_login_that_is_malformed_is_refused_and_no_value_is_shown(params: Any, named: str) -> None:
    client = await ready()
    message = await client.refused("account/login/start", params)
    assert named in message
    assert "canary" not in message
    assert client.messages == []
    assert client.engine.session.generation == 0


@pytest.mark.parametrize(
    ("policy", "login"),
    [
        (Policy(forced_login_method=LoginMethod.CHATGPT), {"type": "apiKey", "apiKey": "sk-a"}),
        (Policy(forced_login_method=LoginMethod.API), {"type": "chatgpt"}),
        (Policy(forced_login_method=LoginMethod.API), {"type": "chatgptDeviceCode"}),
        (
            Policy(forced_login_method=LoginMethod.API),
            {"type": "chatgptAuthTokens", "accessToken": external_jwt(), "chatgptAccountId": "org-1"},
        ),
        (
            Policy(forced_workspaces=("org-2",)),
            {"type": "chatgptAuthTokens", "accessToken": external_jwt(), "chatgptAccountId": "org-1"},
        ),
    ],
)
async def test_what_the_configuration_forbids_is_refused(policy: Policy, login: dict[str, Any]) -> None:
    client = await ready(policy=policy)
    assert "forced_" in await client.refused("account/login/start", login)
    assert client.messages == []


@pytest.mark.parametrize("login_id", ["x", "", "0" * 31, "{" + "0" * 32, "0" * 32 + "}", "g" * 32, 5, None])
async def test_cancel_refuses_what_is_no_uuid(login_id: Any) -> None:
    client = await ready()
    assert "loginId" in await client.refused("account/login/cancel", {"loginId": login_id})


@pytest.mark.parametrize("form", ["{}", "{{{}}}", "urn:uuid:{}"])
async def test_cancel_finds_no_login(form: str) -> None:
    client = await ready()
    for uuid in ("00000000-0000-0000-0000-00000000000A", "0000000000000000000000000000000a"):
        assert await client.result("account/login/cancel", {"loginId": form.format(uuid)}) == {"status": "notFound"}


@pytest.mark.parametrize("method", ["account/logout", "account/rateLimits/read", "account/read", "getAuthStatus"])
async def test_params_that_are_no_object_are_refused(method: str) -> None:
    client = await ready()
    wrong: tuple[object, ...] = ([], "x", 1)
    for params in wrong:
        assert "Invalid request" in await client.refused(method, params)


async def test_wrong_types_name_the_place() -> None:
    client = await ready()
    assert "$.refreshToken" in await client.refused("account/read", {"refreshToken": "canary"})
