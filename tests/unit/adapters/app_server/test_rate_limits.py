"""The backend's usage becomes the account API's rate limits."""

import asyncio
from typing import Any, NoReturn

import httpx
import pytest

from authstate.adapters.app_server.rate_limits import (
    RateLimitsUnavailable,
    rate_limits_from_usage,
    read_rate_limits,
    usage_url,
)
from authstate.engine.engine import AuthEngine
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import NotSignedIn, RecoveryExhausted
from authstate.engine.model.secret import Secret
from authstate.engine.model.session import Authorization
from authstate.testing import FakeAuthority, LoopbackIssuer, MemoryStore

USAGE = {
    "plan_type": "Pro",
    "rate_limit": {
        "primary_window": {"used_percent": 42, "limit_window_seconds": 18001, "reset_at": 1735693200},
        "secondary_window": None,
    },
    "credits": {"has_credits": True, "unlimited": False, "balance": "9.99"},
    "additional_rate_limits": [
        {
            "limit_name": "codex_other",
            "metered_feature": "codex_other_feature",
            "rate_limit": {
                "primary_window": {"used_percent": 88.4, "limit_window_seconds": 0, "reset_at": None},
                "secondary_window": {"used_percent": 1, "limit_window_seconds": 60, "reset_at": 5},
            },
        }
    ],
}


class Engine:
    """Authorizes everything, and recovers nothing."""

    def fresh_authorization(self) -> Authorization | None:
        return None

    async def authorization(self) -> Authorization:
        return Authorization(Secret("token"), "org-1", 1)

    async def recover(self, refused: Authorization) -> NoReturn:
        raise RecoveryExhausted("no way")


def client_that(answer: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def test_the_wire_form() -> None:
    assert rate_limits_from_usage(USAGE) == {
        "rateLimits": {
            "limitId": "codex",
            "limitName": None,
            "primary": {"usedPercent": 42, "windowDurationMins": 301, "resetsAt": 1735693200},
            "secondary": None,
            "credits": {"hasCredits": True, "unlimited": False, "balance": "9.99"},
            "planType": "pro",
        },
        "rateLimitsByLimitId": {
            "codex": rate_limits_from_usage(USAGE)["rateLimits"],
            "codex_other_feature": {
                "limitId": "codex_other_feature",
                "limitName": "codex_other",
                "primary": {"usedPercent": 88, "windowDurationMins": None, "resetsAt": None},
                "secondary": {"usedPercent": 1, "windowDurationMins": 1, "resetsAt": 5},
                "credits": None,
                "planType": "pro",
            },
        },
    }


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"plan_type": None, "rate_limit": None, "credits": None, "additional_rate_limits": None},
        {"plan_type": 5, "rate_limit": [], "credits": "x", "additional_rate_limits": {"a": 1}},
        {"rate_limit": {"primary_window": {"used_percent": True}, "secondary_window": {"used_percent": "9"}}},
        {"additional_rate_limits": [None, {}, {"metered_feature": 7}, {"metered_feature": "codex"}]},
    ],
)
def test_what_is_missing_or_wrong_is_null(usage: Any) -> None:
    empty = {
        "limitId": "codex",
        "limitName": None,
        "primary": None,
        "secondary": None,
        "credits": None,
        "planType": None,
    }
    assert rate_limits_from_usage(usage) == {"rateLimits": empty, "rateLimitsByLimitId": {"codex": empty}}


def test_a_balance_that_is_a_number_is_text() -> None:
    usage = {"credits": {"has_credits": 1, "unlimited": True, "balance": 3}}
    assert rate_limits_from_usage(usage)["rateLimits"]["credits"] == {
        "hasCredits": False,
        "unlimited": True,
        "balance": "3",
    }


def test_where_the_usage_is() -> None:
    assert usage_url("https://chatgpt.com/backend-api/") == "https://chatgpt.com/backend-api/wham/usage"
    assert usage_url("http://127.0.0.1:1") == "http://127.0.0.1:1/api/codex/usage"


async def test_over_http_through_the_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with LoopbackIssuer() as issuer:
        first = ChatgptTokens.read(**issuer.seed(plan="team"))
        issuer.expire_access()
        second = ChatgptTokens.read(**issuer.seed(plan="team"))
        store = MemoryStore(first)
        async with AuthEngine(store, FakeAuthority()) as engine:
            async with store.locked() as held:
                await held.save(second)
            for base in (issuer.backend_url, issuer.url):
                answer = await read_rate_limits(engine, base)
                assert answer["rateLimits"]["planType"] == "team"
                assert answer["rateLimits"]["primary"]["windowDurationMins"] == 300
        stats = issuer.stats()
    assert stats["backend_refused"] == 1
    assert stats["backend_accepted"] == 2


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (302, "check chatgpt_base_url; a proxy"),
        (401, "sign in again"),
        (404, "check chatgpt_base_url; a proxy"),
        (429, "try again later"),
        (500, "try again later"),
    ],
)
async def test_a_status_that_is_no_answer(status: int, remedy: str) -> None:
    async with client_that(lambda request: httpx.Response(status)) as client:
        with pytest.raises(RateLimitsUnavailable, match=f"status {status}: {remedy}") as error:
            await read_rate_limits(Engine(), "https://backend.example", client)
    assert error.value.status == status


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"[" * 100_000, b"x" * 2_000_000])
async def test_a_body_that_is_no_answer(content: Any) -> None:
    async with client_that(lambda request: httpx.Response(200, content=content)) as client:
        with pytest.raises(RateLimitsUnavailable, match="may have answered: check it, then try again"):
            await read_rate_limits(Engine(), "https://backend.example", client)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.ReadError("reset")])
async def test_no_answer(error: Any) -> None:
    def fail(request: httpx.Request) -> NoReturn:
        raise error

    async with client_that(fail) as client:
        with pytest.raises(RateLimitsUnavailable, match=r"check .*the network and the proxy"):
            await read_rate_limits(Engine(), "https://backend.example", client)


async def test_a_base_url_that_is_none() -> None:
    with pytest.raises(RateLimitsUnavailable, match="check chatgpt_base_url"):
        await read_rate_limits(Engine(), "nonsense")


async def test_nobody_signed_in_is_the_callers_to_tell() -> None:
    async with AuthEngine(MemoryStore(), FakeAuthority()) as engine:
        with pytest.raises(NotSignedIn):
            await read_rate_limits(engine, "https://backend.example")


async def test_no_token_in_time() -> None:
    class Slow(Engine):
        async def authorization(self) -> Authorization:
            await asyncio.Event().wait()
            raise AssertionError("nobody ends the wait")

    async with httpx.AsyncClient(timeout=httpx.Timeout(None, pool=0.01)) as client:
        with pytest.raises(RateLimitsUnavailable, match="no token came"):
            await read_rate_limits(Slow(), "https://backend.example", client)
