"""Browser logins over real sockets, with actions of browsers, clients and users that hypothesis chooses.

In any order of actions, each attempt has exactly one outcome, and the stored login is that of the last success. At the
end, no task is left and no port is in use. The test answers for the issuer, so that nothing waits for another process.
"""

import asyncio
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlencode, urlsplit

from hypothesis import HealthCheck, given, settings
from model.login_world import History, SteppedWorld, histories

from authstate.adapters.oauth import browser_login
from authstate.adapters.oauth.browser_login import BrowserLogin, start_browser_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import LoginFailed
from authstate.engine.model.secret import Secret
from authstate.testing import make_tokens

ISSUER = Issuer("http://127.0.0.1:9", "app")


class BrowserWorld(SteppedWorld):
    """A world with browser logins, and an issuer that accepts the code of each login and is as slow as the store."""

    def __init__(self) -> None:
        super().__init__()
        self.logins: list[BrowserLogin] = []

    async def closed(self) -> None:
        for login in self.logins:
            await asyncio.wait_for(login.closed(), 60)
        assert not any(login._server.is_listening for login in self.logins)

    async def exchange(self, issuer: Issuer, *, code: Secret, **_: Any) -> ChatgptTokens:
        """Stands for `exchange_code`. The code is the id of the login."""
        await self.slowly("exchange")
        if code.reveal() not in self.tokens:
            raise LoginFailed("no such code", "invalid_grant")
        return self.tokens[code.reveal()]

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
        """A browser that sends the redirect and closes the connection without waiting for the answer."""
        if self.logins:
            login = self.picked(number)
            _, writer = await asyncio.open_connection("127.0.0.1", login.port)
            writer.write(self.head(login, self.callback(login, code=login.attempt.login_id)))
            await asyncio.sleep(0)
            writer.transport.abort()

    async def wait(self, number: int) -> None:
        await self.clock.elapse((1.0, 300.0, 600.0)[number % 3])

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
            return await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()

    def head(self, login: BrowserLogin, target: str) -> bytes:
        return f"GET {target} HTTP/1.1\r\nHost: localhost:{login.port}\r\n\r\n".encode()


STEPS = ("start", "start", "agree", "agree", "agree", "decline", "forge", "spoil", "cancel_there", "cancel_here")
MORE = ("hang_up", "wait")


async def live(history: History) -> BrowserWorld:
    world = BrowserWorld()
    with patch.object(browser_login, "exchange_code", world.exchange):
        await world.live(history)
    return world


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(STEPS + MORE, numbers=5, length=8))
def test_whatever_happens_each_browser_login_has_one_outcome(history: History) -> None:
    asyncio.run(live(history))


async def test_the_histories_can_reach_every_outcome() -> None:
    first = [("start", 0)], [("agree", 0)], [("start", 0)], [("start", 0)], [("decline", 0)]
    then = [("start", 0)], [("cancel_there", 0)], [("start", 0)], [("wait", 2)]
    world = await live([*map(list, (*first, *then))])
    states = [attempt.state for attempt in world.attempts.values()]
    assert states == ["succeeded", "superseded", "failed", "cancelled", "expired"]
