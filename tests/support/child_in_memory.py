"""An `AppServerClient` and its child in one process, without pipes and with a manual clock."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from authstate.adapters.child.client import AppServerClient
from authstate.adapters.jsonrpc.peer import OVERLOADED, Peer, RpcError
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens, Credentials
from authstate.engine.model.policy import Policy
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens

REFRESH = "account/chatgptAuthTokens/refresh"


class Child:
    """An app-server in memory, connected to an `AppServerClient`.

    Attributes:
        requests: the methods and params that it received, in order. A notification has no params here.
        answers: what it got for `ask`, in order.
        token: the access token or API key that it uses now.
        refuse: for each method that it refuses, the message of the error.
        silent: the methods that it never answers.
        busy: answer every request with the error "overloaded".
        instead: the result of every request, if it is not None.
        arrived: set when a request arrives.
    """

    def __init__(self, user_agent: str = "child/1") -> None:
        self.user_agent = user_agent
        self.answers: list[Any] = []
        self.peer = Peer(self._handle, self._notified)
        self.incoming = asyncio.StreamReader()
        self.requests: list[tuple[str, Any]] = []
        self.refuse: dict[str, str] = {}
        self.silent: set[str] = set()
        self.busy = False
        self.instead: object = None
        self.token: str | None = None
        self.arrived = asyncio.Event()
        self.peer.connect(self)

    # The child's side

    def _handle(self, method: str, params: Any) -> object:
        asked: Any = msgspec.json.decode(params) if params is not None else None
        self.requests.append((method, asked))
        self.arrived.set()
        if self.instead is not None:
            return self.instead
        if self.busy:
            raise RpcError(OVERLOADED, "too much at once")
        if method in self.silent:
            return asyncio.Event().wait()
        if method in self.refuse:
            raise RpcError(-32600, self.refuse[method])
        if method == "account/login/start":
            self.token = asked.get("accessToken") or asked["apiKey"]
        elif method == "account/logout":
            self.token = None
        return {"userAgent": self.user_agent} if method == "initialize" else {"echo": asked}

    def _notified(self, method: str, params: Any) -> None:
        self.requests.append((method, None))

    async def ask(self, account: str | None = "org-1") -> str:
        """Ask the client for new tokens and use them. Returns the access token."""
        params = {"reason": "unauthorized", "previousAccountId": account}
        answer = msgspec.json.decode(await self.peer.request(REFRESH, params))
        self.answers.append(answer)
        self.token = token = str(answer["accessToken"])
        return token

    def ask_later(self) -> "asyncio.Future[str]":
        """Ask for new tokens, without waiting for the answer."""
        return asyncio.ensure_future(self.ask())

    async def begin(self, *threads: str) -> None:
        """Notify that a turn started in each of these threads. Returns once the client received it."""
        await self._notify("turn/started", threads)

    async def finish(self, *threads: str) -> None:
        """Notify that the turns of these threads are completed."""
        await self._notify("turn/completed", threads)

    async def _notify(self, method: str, threads: tuple[str, ...]) -> None:
        for thread in threads:
            self.peer.notify(method, {"threadId": thread, "turn": {"id": "1"}})
        for _ in range(20):
            await asyncio.sleep(0)

    def die(self) -> None:
        """End the child: close its output."""
        self.incoming.feed_eof()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the event loop run until a condition holds. Raises AssertionError after 2000 iterations."""
        for _ in range(2000):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError(f"the condition never became true: {self.requests}")

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.requests)

    # The streams of the client

    def write(self, data: bytes) -> None:
        if data and not self.incoming.at_eof():
            self.incoming.feed_data(data)

    def close(self) -> None:
        self.die()


class _ToChild:
    """The stream that the client writes to."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def write(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self.child.peer.data_received, data)

    def close(self) -> None:
        self.child.die()


class World:
    """One engine in memory, and the clients of its children."""

    def __init__(self, stored: Credentials | None = None, *, policy: Policy | None = None) -> None:
        self.clock = ManualClock()
        self.authority = FakeAuthority(clock=self.clock)
        if isinstance(stored, ChatgptTokens):
            self.authority.accept(stored)
        self.store = MemoryStore(stored)
        self.engine = AuthEngine(self.store, self.authority, clock=self.clock, policy=policy)
        self.warned: list[str] = []

    @asynccontextmanager
    async def child(self, child: Child | None = None, **options: Any) -> AsyncIterator[tuple[AppServerClient, Child]]:
        """Run a client with a child. Returns both. `options` go to `AppServerClient`."""
        child = child or Child()
        link = AppServerClient(
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

    def elsewhere(self) -> AuthEngine:
        """An engine of another process on the same store."""
        return AuthEngine(self.store, self.authority, clock=self.clock)

    def token(self) -> str:
        credentials = self.engine.session.credentials
        assert isinstance(credentials, ChatgptTokens)
        return credentials.access_token.reveal()


def tokens(world_now: float = 1_800_000_000.0, **more: Any) -> ChatgptTokens:
    """The tokens of a ChatGPT login, made at the time of the manual clock."""
    return make_tokens(now=world_now, **more)
