"""Browser logins over real sockets, with what browsers, clients and the world do to them drawn by hypothesis.

Whatever meets whatever: each attempt has exactly one outcome, what is stored belongs to the last success, and at the
end no task is left and no port taken. The issuer's answer is made here, so that nothing waits for another process.
"""

import asyncio
from contextlib import suppress
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlencode, urlsplit

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from login_world import EXTERNAL, KEY, World

from authstate.adapters.oauth import browser_login
from authstate.adapters.oauth.browser_login import BrowserLogin, start_browser_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.testing import make_tokens
from authstate.engine.credentials import ChatgptTokens
from authstate.engine.errors import AuthError, LoginFailed

ISSUER = Issuer("http://127.0.0.1:9", "app")


class BrowserWorld(World):
    """A world with browser logins in it, a store that takes its time, and an issuer that knows every code."""

    def __init__(self) -> None:
        super().__init__(self.slowly)
        self.rounds = 0
        self.logins: list[BrowserLogin] = []

    async def slowly(self, what: str) -> None:
        for _ in range(self.rounds):
            await asyncio.sleep(0)

    async def exchange(self, issuer: Issuer, *, code: str, **_: Any) -> ChatgptTokens:
        """In the place of `exchange_code`. The code is the name of its login."""
        for _ in range(self.rounds):
            await asyncio.sleep(0)
        if code not in self.tokens:
            raise LoginFailed("no such code", "invalid_grant")
        return self.tokens[code]

    async def do(self, step: tuple[str, int]) -> None:
        """One thing that somebody does. What is refused is refused, and a port may be free already."""
        what, number = step
        with suppress(AuthError, OSError):
            await getattr(self, what)(number)

    async def start(self, number: int) -> None:
        login = await start_browser_login(self.engine, ISSUER, ports=(0,), clock=self.clock, linger=0.01)
        login_id = login.attempt.login_id
        self.attempts[login_id] = login.attempt
        self.tokens[login_id] = make_tokens(account_id=login_id)
        self.logins.append(login)

    async def agree(self, number: int) -> None:
        if self.logins:
            login = self.picked(number)
            await self.come_back(login, code=login.attempt.login_id)
            await self.get(login, "/done")

    async def decline(self, number: int) -> None:
        if self.logins:
            await self.come_back(self.picked(number), error="access_denied")

    async def forge(self, number: int) -> None:
        if self.logins:
            await self.get(self.picked(number), "/auth/callback?state=forged&code=x")

    async def spoil(self, number: int) -> None:
        if self.logins:
            await self.come_back(self.picked(number), code="nobody's")

    async def cancel_there(self, number: int) -> None:
        if self.logins:
            await self.get(self.picked(number), "/cancel")

    async def cancel_here(self, number: int) -> None:
        if self.logins:
            await self.engine.cancel_login(self.picked(number).attempt.login_id)

    async def hang_up(self, number: int) -> None:
        """A browser that asks and does not wait for the answer."""
        if self.logins:
            login = self.picked(number)
            _, writer = await asyncio.open_connection("127.0.0.1", login.port)
            writer.write(self.head(login, self.callback(login, code=login.attempt.login_id)))
            await asyncio.sleep(0)
            writer.transport.abort()

    async def log_out(self, number: int) -> None:
        await self.engine.log_out()

    async def use_key(self, number: int) -> None:
        await self.engine.use_api_key(KEY)

    async def use_external(self, number: int) -> None:
        await self.engine.use_external_tokens(EXTERNAL)

    async def wait(self, number: int) -> None:
        await self.clock.elapse((1.0, 300.0, 600.0)[number % 3])

    async def slow(self, number: int) -> None:
        self.rounds = number * 4

    def picked(self, number: int) -> BrowserLogin:
        return self.logins[-1 - number % min(2, len(self.logins))]

    async def come_back(self, login: BrowserLogin, **answer: str) -> None:
        await self.get(login, self.callback(login, **answer))

    def callback(self, login: BrowserLogin, **answer: str) -> str:
        state = parse_qs(urlsplit(login.auth_url).query)["state"][0]
        return f"/auth/callback?{urlencode({'state': state, **answer})}"

    async def get(self, login: BrowserLogin, target: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", login.port)
        writer.write(self.head(login, target))
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()

    def head(self, login: BrowserLogin, target: str) -> bytes:
        return f"GET {target} HTTP/1.1\r\nHost: localhost:{login.port}\r\n\r\n".encode()


STEPS = ("start", "start", "agree", "agree", "agree", "decline", "forge", "spoil", "cancel_there", "cancel_here")
MORE = ("hang_up", "log_out", "use_key", "use_external", "wait", "slow")
step = st.tuples(st.sampled_from(STEPS + MORE), st.integers(0, 5))
histories = st.lists(st.lists(step, min_size=1, max_size=4), min_size=1, max_size=8)


async def live(history: list[list[tuple[str, int]]]) -> BrowserWorld:
    """Let each group of steps happen at once, look, and go on; at the end the program ends."""
    world = BrowserWorld()
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    with patch.object(browser_login, "exchange_code", world.exchange):
        for group in history:
            await asyncio.gather(*(world.do(step) for step in group))
            await world.clock.settle()
            world.check()
        await world.engine.close()
        for login in world.logins:
            await asyncio.wait_for(login.closed(), 10)
        await world.clock.settle()
        world.check()
    assert faults == []
    return world


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories)
def test_whatever_happens_each_browser_login_has_one_outcome(history: list[list[tuple[str, int]]]) -> None:
    async def run() -> None:
        world = await live(history)
        assert not any(attempt.is_open for attempt in world.attempts.values())
        assert world.clock.sleepers == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not any(login._server.is_listening for login in world.logins)

    asyncio.run(run())


async def test_the_histories_can_reach_every_outcome() -> None:
    first = [("start", 0)], [("agree", 0)], [("start", 0)], [("start", 0)], [("decline", 0)]
    then = [("start", 0)], [("cancel_there", 0)], [("start", 0)], [("wait", 2)]
    world = await live([*map(list, (*first, *then))])
    states = [attempt.state for attempt in world.attempts.values()]
    assert states == ["succeeded", "superseded", "failed", "cancelled", "expired"]
