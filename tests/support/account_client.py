"""A client of the account API and the server that it talks to, in one process."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from authstate.adapters.app_server.account_api import AccountApi, PeerTokenSource
from authstate.adapters.app_server.connected_client import ConnectedClient
from authstate.adapters.app_server.deferred_log import DeferredLog
from authstate.adapters.app_server.handshake import Handshake
from authstate.adapters.app_server.interactive_logins import InteractiveLogins
from authstate.adapters.app_server.lazy_account import AccountSetup, LazyAccount, OpenAccount
from authstate.adapters.config import Config, Environment
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey, Credentials
from authstate.engine.model.policy import Policy
from authstate.engine.model.refresh_settings import RefreshSettings
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_jwt

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
            async with asyncio.timeout(60):
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


async def asked(client: Client) -> Any:
    return await client.until(lambda m: m.get("method") == "account/chatgptAuthTokens/refresh")


async def with_external_tokens(**options: Any) -> Client:
    client = await ready(**options)
    params = {"type": "chatgptAuthTokens", "accessToken": external_jwt(), "chatgptAccountId": "org-1"}
    await client.result("account/login/start", params)
    return client
