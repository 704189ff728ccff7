"""The account API over a peer in memory: a login, a logout or a key of another process."""

import asyncio
from typing import Any

import pytest
from support.account_client import KEY, ready

from authstate.engine.model.credentials import Credentials
from authstate.engine.model.errors import (
    PermanentRefreshError,
)
from authstate.testing import ManualClock, make_tokens

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
