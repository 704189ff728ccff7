"""The account API over a peer in memory: methods, refusals, order of messages, the parent behind the connection."""

import asyncio
import gc
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest

from authstate.adapters.app_server.account_api import AccountApi, PeerTokenSource
from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.app_server.handshake import Handshake
from authstate.adapters.app_server.interactive_logins import InteractiveLogins
from authstate.adapters.app_server.lazy_account import AccountSetup, LazyAccount, OpenAccount
from authstate.adapters.config import Config, Environment
from authstate.adapters.oauth.device_endpoint import HttpDeviceEndpoint
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.engine import AuthEngine
from authstate.engine.model.account import Account as Owner
from authstate.engine.model.account import PlanType
from authstate.engine.model.credentials import ApiKey, Credentials, ExternalTokens, PersonalAccessToken
from authstate.engine.model.errors import (
    InvalidCredentials,
    IssuerUnavailable,
    ParentUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    TokenRefused,
)
from authstate.engine.model.policy import LoginMethod, Policy
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.engine.version import VERSION
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_jwt, make_tokens

AUTH = "https://api.openai.com/auth"
KEY = ApiKey.parse("sk-test")


def external_jwt(account_id: str = "org-1", **claims: Any) -> str:
    return make_jwt(**({AUTH: {"chatgpt_account_id": account_id, "chatgpt_plan_type": "pro"}} | claims))


class Account(LazyAccount):
    """The account of a client, whose engine is in memory."""

    def __init__(self, owner: "Client", client: ConnectedClient) -> None:
        super().__init__(AccountSetup(Config(), Environment(home=Path("nowhere"))), client, DeferredLog())
        self._owner = owner

    async def _open(self) -> OpenAccount:
        return await self._owner.open()


class Client:
    """A client and the server it talks to, in one process."""

    def __init__(
        self,
        stored: Credentials | None = None,
        *,
        policy: Policy | None = None,
        requires_openai_auth: bool = True,
        parent_timeout: float = 10.0,
        rate_limits: Any = None,
    ) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(stored)
        self.authority = FakeAuthority(clock=self.clock)
        self.messages: list[Any] = []
        self.arrived = asyncio.Event()
        self._requires = requires_openai_auth
        self._rate_limits = rate_limits
        self.opened = 0
        self.fail_open: Exception | None = None
        self.handshake = Handshake(Path("/home/of/codex"), lambda client: Account(self, client))
        self.engine = AuthEngine(
            self.store,
            self.authority,
            parent=PeerTokenSource(self.handshake.peer),
            policy=policy,
            clock=self.clock,
            settings=RefreshSettings(parent_timeout=parent_timeout),
        )
        self.peer = self.handshake.peer
        self.peer.connect(self)
        self.next_id = 0

    async def open(self) -> OpenAccount:
        self.opened += 1
        if self.fail_open is not None:
            raise self.fail_open
        await self.engine.start()

        async def rate_limits() -> object:
            return self._rate_limits() if self._rate_limits else {"rateLimits": {}}

        logins = InteractiveLogins(self.engine, Issuer("http://127.0.0.1:1", "app"))
        api = AccountApi(
            self.engine,
            self.handshake.client.notify,
            requires_openai_auth=self._requires,
            rate_limits=rate_limits,
            logins=logins,
        )
        return OpenAccount(self.engine, api, logins)

    def write(self, data: bytes) -> None:
        self.messages += [msgspec.json.decode(line) for line in data.splitlines()]
        self.arrived.set()

    def send(self, message: object) -> None:
        self.peer.data_received(msgspec.json.encode(message) + b"\n")

    async def until(self, found: Any) -> Any:
        """The first message that `found` accepts; it is taken out."""
        while True:
            for message in self.messages:
                if found(message):
                    self.messages.remove(message)
                    return message
            self.arrived.clear()
            async with asyncio.timeout(5):
                await self.arrived.wait()

    async def call(self, method: str, params: Any = msgspec.UNSET) -> Any:
        """The whole answer."""
        self.next_id += 1
        id_ = self.next_id
        message = {"id": id_, "method": method}
        self.send(message if params is msgspec.UNSET else message | {"params": params})
        return await self.until(lambda m: m.get("id") == id_ and "method" not in m)

    async def result(self, method: str, params: Any = msgspec.UNSET) -> Any:
        answer = await self.call(method, params)
        assert "result" in answer, answer
        return answer["result"]

    async def refused(self, method: str, params: Any = msgspec.UNSET) -> str:
        answer = await self.call(method, params)
        assert answer["error"]["code"] == -32600, answer
        message: str = answer["error"]["message"]
        return message

    async def initialize(self, **capabilities: Any) -> Any:
        params = {"clientInfo": {"name": "ide", "version": "9.1"}, "capabilities": capabilities or None}
        result = await self.result("initialize", params)
        self.send({"method": "initialized"})
        return result


async def ready(stored: Credentials | None = None, **options: Any) -> Client:
    client = Client(stored, **options)
    await client.initialize()
    return client


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


# The parent


async def asked(client: Client) -> Any:
    return await client.until(lambda m: m.get("method") == "account/chatgptAuthTokens/refresh")


async def with_external_tokens(**options: Any) -> Client:
    client = await ready(**options)
    params = {"type": "chatgptAuthTokens", "accessToken": external_jwt(), "chatgptAccountId": "org-1"}
    await client.result("account/login/start", params)
    return client


@pytest.mark.parametrize(
    "answer",
    [
        {"idToken": external_jwt(email="n@e.w"), "accessToken": "new"},
        {"accessToken": external_jwt(jti="new"), "chatgptAccountId": "org-1", "chatgptPlanType": "pro"},
        {"idToken": external_jwt(), "accessToken": "new", "chatgptAccountId": "org-1", "chatgptPlanType": None},
    ],
)
async def test_the_parent_is_asked_after_a_401_and_answers_in_either_dialect(answer: dict[str, Any]) -> None:
    client = await with_external_tokens()
    recovering = asyncio.create_task(client.engine.recover(await client.engine.authorization()))
    question = await asked(client)
    assert question == {
        "method": "account/chatgptAuthTokens/refresh",
        "id": 0,
        "params": {"reason": "unauthorized", "previousAccountId": "org-1"},
    }
    client.send({"id": 0, "result": answer})
    assert (await recovering).token.reveal() == answer["accessToken"]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ({"error": {"code": -32000, "message": "canary"}}, "with error -32000: see its log, then send"),
        ({"result": {}}, "it must send `accessToken`"),
        ({"result": None}, "it must send `accessToken`"),
        ({"result": {"accessToken": "canary"}}, "it must send `accessToken`"),
        ({"result": {"accessToken": "canary", "idToken": "canary"}}, "the id token is not a JWT"),
        ({"result": {"accessToken": external_jwt("org-2"), "chatgptAccountId": "org-2"}}, "org-2"),
    ],
)
async def test_a_parent_that_gives_no_tokens_changes_nothing(reply: dict[str, Any], says: str) -> None:
    client = await with_external_tokens(policy=Policy(forced_workspaces=("org-1",)))
    before = client.engine.session
    for id_ in range(2):
        recovering = asyncio.create_task(client.engine.recover(await client.engine.authorization()))
        assert (await asked(client))["id"] == id_
        client.send({"id": id_} | reply)
        with pytest.raises(ParentUnavailable, match=says) as failed:
            await recovering
        assert "canary" not in str(failed.value)
    assert client.engine.session is before


async def test_a_parent_that_goes_away_is_unavailable() -> None:
    client = await with_external_tokens()
    recovering = asyncio.create_task(client.engine.recover(await client.engine.authorization()))
    await asked(client)
    client.peer.eof_received()
    with pytest.raises(ParentUnavailable, match=r"went away .*: start it again"):
        await recovering


async def test_the_source_itself_says_what_was_wrong() -> None:
    client = await ready()
    source = PeerTokenSource(client.peer)
    asking = asyncio.create_task(source.request_tokens(previous_account_id=None))
    assert (await asked(client))["params"] == {"reason": "unauthorized", "previousAccountId": None}
    client.send({"id": 0, "result": {"accessToken": "x", "idToken": "y"}})
    with pytest.raises(InvalidCredentials):
        await asking


async def test_a_parent_that_never_answers_is_given_up_on_and_its_late_answer_dropped() -> None:
    client = await with_external_tokens(parent_timeout=10)
    recovering = asyncio.create_task(client.engine.recover(await client.engine.authorization()))
    await asked(client)
    client.clock.advance(10)
    with pytest.raises(ParentUnavailable):
        await recovering
    before = client.engine.session.credentials
    client.send({"id": 0, "result": {"accessToken": external_jwt(), "chatgptAccountId": "org-1"}})
    assert isinstance(before, ExternalTokens)
    assert client.engine.session.credentials is before


# A login, a logout or a key of another process

ELSEWHERE = make_tokens(email="other@example.com", account_id="org-2", expires_in=None)


@pytest.mark.parametrize(
    ("stored", "account"),
    [
        (ELSEWHERE, {"type": "chatgpt", "email": "other@example.com", "planType": "plus"}),
        (KEY, {"type": "apiKey"}),
        (None, None),
    ],
)
@pytest.mark.parametrize("first", ["account/read", "getAuthStatus", "account/rateLimits/read"])
async def test_whoever_is_signed_in_by_another_process_is_served_and_the_client_is_told(
    stored: Credentials | None, account: Any, first: str
) -> None:
    """An app-server used to fail every request then, with the advice to sign in, until it was restarted."""
    client = await ready(make_tokens(now=ManualClock().now()))
    await client.result("account/read", {})
    client.authority.accept(ELSEWHERE)
    client.store.credentials = stored
    params = None if first == "account/rateLimits/read" else {"refreshToken": True}
    if params is None and not isinstance(stored, type(ELSEWHERE)):
        assert "rate limits need a ChatGPT account" in await client.refused(first)
    else:
        await client.result(first, params)
    told = await client.until(lambda message: message.get("method") == "account/updated")
    mode = {"chatgpt": "chatgpt", "apiKey": "apikey"}[account["type"]] if account else None
    assert told["params"]["authMode"] == mode
    assert (await client.result("account/read", {}))["account"] == account
    assert client.authority.sent == ([ELSEWHERE.refresh_token.reveal()] if mode == "chatgpt" and params else [])


async def test_a_login_of_another_process_in_the_middle_of_a_refresh_is_told_and_then_served() -> None:
    """A request that was begun as one account is never served as another one."""
    old = make_tokens(now=ManualClock().now())
    client = await ready(old)
    await client.result("account/read", {})
    client.authority.accept(old)
    client.authority.hold()
    client.clock.advance(3600)

    async def ask_as(account: Any) -> object:
        authorization = await client.engine.authorization()
        return account(authorization.account_id)

    asking = asyncio.create_task(ask_as(str))
    await client.authority.asked()
    client.store.credentials = ELSEWHERE
    client.authority.release()
    with pytest.raises(PermanentRefreshError, match="To use what is stored now, try again in a moment"):
        await asking
    await client.result("account/read", {"refreshToken": True})
    assert await ask_as(str) == "org-2"


@pytest.mark.parametrize("method", ["account/read", "getAuthStatus", "account/rateLimits/read"])
async def test_a_login_of_another_process_while_nobody_is_signed_in_is_told_too(method: str) -> None:
    client = await ready()
    assert (await client.result("account/read", {}))["account"] is None
    client.store.credentials = ELSEWHERE
    await client.result(method, *([] if method == "account/rateLimits/read" else [{}]))
    told = await client.until(lambda message: message.get("method") == "account/updated")
    assert told["params"] == {"authMode": "chatgpt", "planType": "plus"}
    assert client.messages == []
