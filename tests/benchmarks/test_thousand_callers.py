"""A thousand callers at once over real HTTP and a real file: they cost one refresh, and every one is answered."""

import asyncio
import json
from pathlib import Path
from time import perf_counter

import httpx
import pytest
from benchmarks.side_by_side import keep

from authstate import AuthEngine
from authstate.adapters.httpx_auth import EngineAuth
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.adapters.stores.file_store import AuthJsonStore
from authstate.adapters.testing.auth_json import chatgpt_auth_json
from authstate.testing import LoopbackIssuer

CALLERS = 1000
REQUESTS = 100
"""Over HTTP: httpx's own pool needs many seconds for a thousand at once, which says nothing of the engine."""


@pytest.fixture
def storm_issuer(monkeypatch: pytest.MonkeyPatch) -> LoopbackIssuer:
    """An issuer of its own, so that its counts begin at zero."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return LoopbackIssuer()


def engine_at(home: Path, issuer: LoopbackIssuer, **login: object) -> AuthEngine:
    """An engine on a home where somebody is signed in."""
    (home / "auth.json").write_text(json.dumps(chatgpt_auth_json(issuer.seed(**login))))
    authority = HttpTokenAuthority(issuer.url, "benchmark", refresh_url=issuer.refresh_url)
    return AuthEngine(AuthJsonStore(home), authority)


async def test_a_thousand_callers_with_an_expired_token_cost_one_refresh(
    tmp_path: Path, storm_issuer: LoopbackIssuer
) -> None:
    with storm_issuer as issuer:
        async with engine_at(tmp_path, issuer, expires_in=-60) as engine:
            began = perf_counter()
            answers = await asyncio.gather(*(engine.authorization() for _ in range(CALLERS)))
            keep("1,000 callers with an expired token", {"authstate": [perf_counter() - began]})
        stats = issuer.stats()
    assert len({answer.token.reveal() for answer in answers}) == 1
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


async def test_a_thousand_401s_for_one_token_cost_one_refresh(tmp_path: Path, storm_issuer: LoopbackIssuer) -> None:
    with storm_issuer as issuer:
        async with engine_at(tmp_path, issuer) as engine:
            refused = await engine.authorization()
            began = perf_counter()
            answers = await asyncio.gather(*(engine.recover(refused) for _ in range(CALLERS)))
            keep("1,000 recoveries from a 401 for one token", {"authstate": [perf_counter() - began]})
        stats = issuer.stats()
    assert {answer.generation for answer in answers} == {refused.generation + 1}
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)


async def test_requests_that_are_refused_at_once_are_all_answered_after_one_refresh(
    tmp_path: Path, storm_issuer: LoopbackIssuer
) -> None:
    with storm_issuer as issuer:
        async with engine_at(tmp_path, issuer) as engine:
            issuer.expire_access()
            async with httpx.AsyncClient(auth=EngineAuth(engine), timeout=60) as client:
                began = perf_counter()
                answers = await asyncio.gather(*(client.get(f"{issuer.backend_url}/echo") for _ in range(REQUESTS)))
                keep(f"{REQUESTS} requests, the first ones refused", {"authstate": [perf_counter() - began]})
        stats = issuer.stats()
    assert [answer.status_code for answer in answers] == [200] * REQUESTS
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
    assert stats["backend_refused"] >= 1
