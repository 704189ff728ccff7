"""Faults to order: the same ones, in memory and on loopback, with the same transcript."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from authstate import AuthEngine, EngineAuth, IssuerUnavailable, PermanentRefreshError, RefreshInDoubt
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.stores.memory import MemoryStore
from authstate.adapters.testing.engines import NO_WAITS
from authstate.engine.model.credentials import ChatgptTokens
from authstate.testing import Engines, Faults, LoopbackIssuer, Transcript


class Place:
    """An engine that is signed in, a client with its tokens, and the faults of what they talk to."""

    def __init__(self, engine: AuthEngine, client: httpx.AsyncClient, faults: Faults, issuer: object) -> None:
        self.engine = engine
        self.client = client
        self.faults = faults
        self._issuer = issuer

    @property
    def transcript(self) -> Transcript:
        found = getattr(self._issuer, "transcript")  # noqa: B009 - of either of two classes
        assert isinstance(found, Transcript)
        return found

    async def status(self) -> int:
        return (await self.client.get("/backend-api/thing", params={"secret": "in-a-query"})).status_code


@pytest.fixture(params=["memory", "loopback"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "memory":
        engines = Engines()
        async with (
            engines.chatgpt() as engine,
            httpx.AsyncClient(
                auth=EngineAuth(engine), transport=engines.backend.transport, base_url="http://127.0.0.1"
            ) as client,
        ):
            yield Place(engine, client, engines.faults, engines)
        return
    issuer: LoopbackIssuer = request.getfixturevalue("running_issuer")
    issuer.reset()
    store = MemoryStore(ChatgptTokens.read(**issuer.seed()))
    authority = HttpTokenAuthority(issuer.url, "client")
    async with (
        AuthEngine(store, authority, settings=NO_WAITS) as engine,
        httpx.AsyncClient(auth=EngineAuth(engine), base_url=issuer.url, trust_env=False) as client,
    ):
        yield Place(engine, client, issuer.faults, issuer)


async def test_access_tokens_expire(place: Place) -> None:
    place.faults.expire()
    assert await place.status() == 200
    assert place.transcript == [
        "GET /backend-api/thing access-1 -> 401",
        "refresh refresh-1 -> access-2 refresh-2",
        "GET /backend-api/thing access-2 -> 200",
    ]


async def test_a_login_is_revoked(place: Place) -> None:
    place.faults.revoke()
    with pytest.raises(PermanentRefreshError, match="was revoked"):
        await place.engine.refresh()
    assert await place.status() == 200, "the access token still works"
    assert place.transcript == ["refresh refresh-1 -> refused: revoked", "GET /backend-api/thing access-1 -> 200"]


@pytest.mark.parametrize("reason", ["expired", "exhausted", "revoked", "unknown"])
async def test_a_refresh_token_is_refused(place: Place, reason: str) -> None:
    place.faults.refuse(reason)
    with pytest.raises(PermanentRefreshError) as refused:
        await place.engine.refresh()
    assert refused.value.reason == reason
    assert place.transcript == [f"refresh refresh-1 -> refused: {reason}"]


async def test_an_answer_is_lost(place: Place) -> None:
    place.faults.lose_answer()
    with pytest.raises(PermanentRefreshError, match="was lost on its way"):
        await place.engine.refresh()
    assert place.transcript == ["refresh refresh-1 -> answer lost", "refresh refresh-1 -> refused: exhausted"]


async def test_two_answers_are_lost(place: Place) -> None:
    place.faults.lose_answer(times=2)
    with pytest.raises(RefreshInDoubt):
        await place.engine.refresh()
    assert await place.status() == 200
    assert place.transcript[:2] == ["refresh refresh-1 -> answer lost"] * 2


async def test_the_issuer_is_down_and_comes_back(place: Place) -> None:
    place.faults.be_down()
    with pytest.raises(IssuerUnavailable):
        await place.engine.refresh()
    place.faults.clear()
    await place.engine.refresh()
    assert place.transcript == ["refresh refresh-1 -> unavailable", "refresh refresh-1 -> access-2 refresh-2"]


async def test_the_backend_is_down_and_comes_back(place: Place) -> None:
    place.faults.be_down("backend")
    assert await place.status() == 503
    place.faults.clear()
    assert await place.status() == 200
    assert [line[-3:] for line in place.transcript] == ["503", "200"]


async def test_a_logout_revokes_and_the_transcript_tells(place: Place) -> None:
    await place.engine.log_out()
    await place.engine.close()
    assert place.transcript == ["revoke refresh-1 -> done"]


async def test_faults_that_do_not_exist_are_refused(place: Place) -> None:
    with pytest.raises(ValueError, match="no reason 'missing': use one of expired, exhausted, revoked, unknown"):
        place.faults.refuse("missing")
    with pytest.raises(ValueError, match="at least 1, and is 0"):
        place.faults.lose_answer(0)
    with pytest.raises(ValueError, match="'issuer' or 'backend', and is 'model'"):
        place.faults.be_down("model")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert place.transcript == []


async def test_no_line_holds_a_secret(place: Place) -> None:
    credentials = place.engine.session.credentials
    assert isinstance(credentials, ChatgptTokens)
    place.faults.expire()
    await place.status()
    shown = repr(place.transcript) + repr([*place.transcript])
    for secret in (credentials.access_token, credentials.refresh_token):
        assert secret.reveal() not in shown
    assert "in-a-query" not in shown and "example.com" not in shown


async def test_an_answer_takes_its_time(place: Place) -> None:
    place.faults.delay(0.001)
    place.faults.clear()
    await place.engine.refresh()
    assert place.transcript == ["refresh refresh-1 -> access-2 refresh-2"]


async def test_in_memory_an_answer_comes_when_the_manual_clock_says() -> None:
    engines = Engines()
    async with engines.chatgpt() as engine:
        engines.faults.delay(5)
        refresh = asyncio.ensure_future(engine.refresh())
        await engines.clock.elapse(4)
        assert not refresh.done()
        await engines.clock.elapse(1)
        assert (await refresh).generation == 2
