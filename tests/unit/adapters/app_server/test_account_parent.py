"""The account API over a peer in memory: the parent application, which is asked for new tokens."""

import asyncio
from typing import Any

import pytest
from support.account_client import asked, external_jwt, ready, with_external_tokens

from authstate.adapters.app_server.account_api import PeerTokenSource
from authstate.engine.model.credentials import ExternalTokens
from authstate.engine.model.errors import (
    InvalidCredentials,
    ParentUnavailable,
)
from authstate.engine.model.policy import Policy


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
