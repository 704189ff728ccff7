"""Whose request it is: the header of the account, and no second attempt as somebody else."""

from typing import Any

import pytest
from support.http_libraries import each_library
from support.numbered_tokens import URL, Backend, NumberedEngine

from authstate.adapters.httpx_auth import EngineAuth
from authstate.engine.engine import AuthEngine
from authstate.engine.model.account import Account
from authstate.engine.model.credentials import ApiKey, PersonalAccessToken
from authstate.testing import FakeAuthority, MemoryStore, make_tokens


@each_library
async def test_an_account_of_the_caller_does_not_stay_on(library: Any) -> None:
    backend = Backend(library)
    async with backend.client(EngineAuth(NumberedEngine(accounts=(None,)))) as client:
        await client.get(URL, headers={"chatgpt-account-id": "org-other", "Authorization": "Bearer other"})
    assert backend.seen == [("Bearer token-1", None)]


@each_library
async def test_a_personal_access_token_is_sent_as_codex_sends_it_and_its_401_is_the_answer(library: Any) -> None:
    """With the workspace of its owner, unlike an API key: measured with 0.169.0 and 0.171.0."""
    authority = FakeAuthority()
    authority.owners["token-1"] = Account(account_id="org-1", user_id="user-1")
    async with AuthEngine(MemoryStore(PersonalAccessToken.read("token-1")), authority) as engine:
        for accepts, status in ((1, 200), (2, 401)):
            backend = Backend(library, accepts)
            async with backend.client(EngineAuth(engine)) as client:
                assert (await client.get(URL)).status_code == status
            assert backend.seen == [("Bearer token-1", "org-1")]
    assert authority.sent == []


@each_library
async def test_a_request_of_one_account_is_not_sent_again_as_another(library: Any) -> None:
    backend = Backend(library, accepts=2)
    async with backend.client(EngineAuth(NumberedEngine(accounts=("org-1", "org-2")))) as client:
        assert (await client.get(URL)).status_code == 401
    assert len(backend.seen) == 1


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (make_tokens(user_id="user-1"), make_tokens(user_id="user-2"), 401),
        (make_tokens(user_id="user-1"), make_tokens(user_id=None), 200),
        (make_tokens(account_id=None, user_id=None), ApiKey.parse("sk-1"), 401),
        (ApiKey.parse("sk-1"), ApiKey.parse("sk-2"), 401),
    ],
)
@each_library
async def test_who_signs_in_elsewhere_while_a_request_is_on_its_way_is_not_who_sends_it_again(
    library: Any, before: Any, after: Any, status: int
) -> None:
    """Two people of one workspace are two accounts, and nobody knows whose an API key is."""
    store, seen = MemoryStore(before), []

    async def answer(request: Any) -> Any:
        seen.append(request.headers["authorization"])
        if len(seen) > 1:
            return library.Response(200)
        store.credentials = after
        if not await engine.reload():
            await engine.follow()
        return library.Response(401)

    async with (
        AuthEngine(store, FakeAuthority()) as engine,
        library.AsyncClient(transport=library.MockTransport(answer), auth=EngineAuth(engine)) as client,
    ):
        assert (await client.get(URL)).status_code == status
    assert len(seen) == (1 if status == 401 else 2)
