"""Authorized requests: the header, and the recovery from a 401."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.http_libraries import each_library, mocked
from support.numbered_tokens import URL, Backend, NumberedEngine

from authstate.adapters.httpx_auth import EngineAuth
from authstate.engine.engine import AuthEngine
from authstate.engine.model.errors import (
    NotSignedIn,
    ParentUnavailable,
    PermanentRefreshError,
    RecoveryExhausted,
    RefreshDeadReason,
)
from authstate.testing import FakeAuthority, MemoryStore, make_tokens


@each_library
async def test_the_header_goes_on(library: Any) -> None:
    backend = Backend(library)
    async with backend.client(EngineAuth(NumberedEngine())) as client:
        assert (await client.get(URL)).status_code == 200
    assert backend.seen == [("Bearer token-1", "org-1")]


@pytest.mark.parametrize("accepts", [2, 3])
@each_library
async def test_a_401_is_recovered_and_the_body_sent_again(library: Any, accepts: int) -> None:
    async def stream() -> AsyncIterator[Any]:
        yield b"one"
        yield b"two"

    backend, engine = Backend(library, accepts), NumberedEngine()
    async with backend.client(EngineAuth(engine)) as client:
        response = await client.post(URL, content=stream())
    assert response.status_code == 200
    assert backend.body == b"onetwo"
    assert engine.recoveries == accepts - 1


@each_library
async def test_it_gives_up_after_two_recoveries(library: Any) -> None:
    backend, engine = Backend(library, accepts=99), NumberedEngine()
    async with backend.client(EngineAuth(engine)) as client:
        assert (await client.get(URL)).status_code == 401
    assert len(backend.seen) == 3
    assert engine.recoveries == 2


@pytest.mark.parametrize("error", [PermanentRefreshError(RefreshDeadReason.REVOKED), ParentUnavailable("no answer")])
@each_library
async def test_a_reason_reaches_the_caller(library: Any, error: Any) -> None:
    async with Backend(library, accepts=2).client(EngineAuth(NumberedEngine(error))) as client:
        with pytest.raises(type(error)):
            await client.get(URL)


@each_library
async def test_without_a_recovery_the_401_is_the_answer(library: Any) -> None:
    backend = Backend(library, accepts=2)
    async with backend.client(EngineAuth(NumberedEngine(RecoveryExhausted("an API key")))) as client:
        assert (await client.get(URL)).status_code == 401
    assert len(backend.seen) == 1


@each_library
async def test_nobody_signed_in(library: Any) -> None:
    backend = Backend(library)
    async with backend.client(EngineAuth(NumberedEngine(NotSignedIn("sign in first")))) as client:
        with pytest.raises(NotSignedIn):
            await client.get(URL)
    assert backend.seen == []


@each_library
async def test_many_requests_share_it(library: Any) -> None:
    backend, engine = Backend(library, accepts=2), NumberedEngine()
    async with backend.client(EngineAuth(engine)) as client:
        responses = await asyncio.gather(*(client.get(URL) for _ in range(50)))
    assert {response.status_code for response in responses} == {200}
    assert engine.generation == 2


@each_library
async def test_a_thousand_requests_that_all_got_a_401_for_one_token_cost_one_refresh(library: Any) -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    refused, count, all_sent = f"Bearer {tokens.access_token.reveal()}", 0, asyncio.Event()

    async def answer(request: Any) -> Any:
        nonlocal count
        if request.headers["authorization"] != refused:
            return library.Response(200)
        count += 1
        if count == 1000:
            all_sent.set()
        await all_sent.wait()
        return library.Response(401)

    async with (
        AuthEngine(MemoryStore(tokens), authority) as engine,
        mocked(library, answer, EngineAuth(engine), timeout=None) as client,
    ):
        responses = await asyncio.gather(*(client.get(URL) for _ in range(1000)))
    assert [response.status_code for response in responses] == [200] * 1000
    assert count == 1000
    assert authority.sent == [tokens.refresh_token.reveal()]
