"""The token as a callable: fresh at each call, in both kinds, and with the errors of the engine."""

import asyncio
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from support.http_libraries import PortalEngine

from authstate.adapters.http_clients.token_provider import sync_token_provider, token_provider
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ApiKey
from authstate.engine.model.errors import InvalidCredentials, NotSignedIn
from authstate.engine.model.secret import Secret
from authstate.testing import FakeAuthority, MemoryStore, make_tokens


async def provided(engine: AuthEngine, kind: str) -> str:
    """Call the provider of a kind once."""
    if kind == "async":
        return await token_provider(engine)()
    async with BlockingPortal() as portal:
        provide = sync_token_provider(PortalEngine(engine, portal))
        answers: tuple[Any, ...] = await asyncio.gather(asyncio.to_thread(provide), return_exceptions=True)
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return str(answers[0])


each_kind = pytest.mark.parametrize("kind", ["async", "sync"])


@each_kind
async def test_a_fresh_token_is_returned_as_it_is(kind: str) -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    async with AuthEngine(MemoryStore(tokens), authority) as engine:
        assert await provided(engine, kind) == tokens.access_token.reveal()
    assert authority.sent == []


@each_kind
async def test_a_token_that_expired_is_refreshed_first(kind: str) -> None:
    tokens = make_tokens(expires_in=-60)
    authority = FakeAuthority(tokens)
    async with AuthEngine(MemoryStore(tokens), authority) as engine:
        newer = await provided(engine, kind)
        assert newer == (await engine.authorization()).token.reveal() != tokens.access_token.reveal()
    assert len(authority.sent) == 1


@each_kind
async def test_an_api_key_is_returned_as_it_is(kind: str) -> None:
    async with AuthEngine(MemoryStore(ApiKey.parse("sk-1")), FakeAuthority()) as engine:
        assert await provided(engine, kind) == "sk-1"


@each_kind
async def test_the_errors_of_the_engine_come_as_they_are(kind: str) -> None:
    async with AuthEngine(MemoryStore(), FakeAuthority()) as engine:
        with pytest.raises(NotSignedIn):
            await provided(engine, kind)


@each_kind
async def test_what_no_header_can_carry_is_not_handed_out(kind: str) -> None:
    """An HTTP client that refuses a header quotes it in its error."""
    async with AuthEngine(MemoryStore(ApiKey(Secret("sk-1\n"))), FakeAuthority()) as engine:
        with pytest.raises(InvalidCredentials):
            await provided(engine, kind)
