"""The token endpoint over real HTTP on loopback, and the answers that only a mock can give."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from typing import Any, NoReturn

import httpx
import pytest

from authstate.adapters.network.insecure_http import InsecureTransport
from authstate.adapters.oauth.issuer_http import LONGEST_ANSWER
from authstate.adapters.oauth.token_endpoint import HttpTokenAuthority
from authstate.engine.model.account import Account, PlanType
from authstate.engine.model.errors import (
    Delivery,
    IssuerUnavailable,
    PermanentRefreshError,
    RefreshDeadReason,
    TokenRefused,
)
from authstate.engine.model.secret import Secret
from authstate.engine.ports import PartialRefresh
from authstate.testing import LoopbackIssuer

SENT = "rt_the-one-that-was-sent"


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    with LoopbackIssuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(running: LoopbackIssuer) -> Any:
    running.behave()
    return running


@pytest.fixture
async def authority(issuer: LoopbackIssuer) -> AsyncIterator[Any]:
    made = HttpTokenAuthority(issuer.url, "app", timeout=60)
    yield made
    await made.aclose()


def answering(monkeypatch: pytest.MonkeyPatch, status: int = 200, **response: Any) -> Any:
    """An authority whose issuer answers with this; and the requests that it got."""
    requests = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(status, **response)

    real = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **kw: real(transport=httpx.MockTransport(answer), **kw))
    return HttpTokenAuthority("https://issuer.example", "app"), requests


def answered_with(monkeypatch: pytest.MonkeyPatch, make: Any) -> Any:
    """An authority whose issuer answers with what `make` makes."""
    made = HttpTokenAuthority("https://issuer.example", "app")
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: make()))
    monkeypatch.setitem(made._http._clients, None, client)
    return made


def packed(status: int, *, content: Any, headers: Any) -> httpx.Response:
    """An answer as it comes from the network, part by part, which httpx has not unpacked."""

    class Arriving(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[Any]:
            for start in range(0, len(content), 65_536):
                yield content[start : start + 65_536]

    return httpx.Response(status, headers=headers, stream=Arriving())


async def outcome(authority: Any) -> Any:
    try:
        return await authority.refresh(Secret(SENT))
    except (PermanentRefreshError, IssuerUnavailable, PartialRefresh) as error:
        assert SENT not in str(error)
        assert error.__cause__ is None
        return error


async def test_a_refresh_token_is_spent_once(issuer: LoopbackIssuer, authority: Any) -> None:
    seeded = issuer.seed()
    answer = await authority.refresh(Secret(seeded["refresh_token"]))
    assert answer.access_token and answer.refresh_token and answer.id_token
    with pytest.raises(PermanentRefreshError) as refused:
        await authority.refresh(Secret(seeded["refresh_token"]))
    assert refused.value.reason is RefreshDeadReason.EXHAUSTED


async def test_revocation(issuer: LoopbackIssuer, authority: Any) -> None:
    seeded = issuer.seed()
    await authority.revoke(Secret(seeded["refresh_token"]))
    with pytest.raises(PermanentRefreshError) as refused:
        await authority.refresh(Secret(seeded["refresh_token"]))
    assert refused.value.reason is RefreshDeadReason.REVOKED
    issuer.behave("revoke", mode="status", status=500, times=1)
    with pytest.raises(IssuerUnavailable):
        await authority.revoke(Secret("x"))


WHOAMI = "/v1/user-auth-credential/whoami"


async def test_the_owner_of_a_personal_access_token(issuer: LoopbackIssuer) -> None:
    issuer.register_token("at-1", email="person@example.com", plan="Pro", account_id="org-1", user_id="user-1")
    made = HttpTokenAuthority("https://issuer.example", "app", authapi_url=f"{issuer.url}/api/accounts/")
    assert await made.identify(Secret("at-1")) == Account("person@example.com", PlanType.PRO, "org-1", "user-1")
    with pytest.raises(TokenRefused, match=r"^127\.0\.0\.1:\d+ answered with status 401: "):
        await made.identify(Secret("at-2"))
    issuer.behave("whoami", mode="status", status=503)
    with pytest.raises(IssuerUnavailable):
        await made.identify(Secret("at-1"))
    await made.aclose()


async def test_the_request_is_the_one_of_codex(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured with 0.169.0 and 0.171.0: the default address, a bearer token and no account."""
    names = {"chatgpt_account_id": "org-1", "chatgpt_user_id": "user-1", "chatgpt_plan_type": "plus", "email": None}
    made, requests = answering(monkeypatch, json=names)
    assert await made.identify(Secret("at-1")) == Account(None, PlanType.PLUS, "org-1", "user-1")
    (request,) = requests
    assert (request.method, str(request.url)) == ("GET", f"https://auth.openai.com/api/accounts{WHOAMI}")
    assert request.headers["authorization"] == "Bearer at-1"
    assert "chatgpt-account-id" not in request.headers


@pytest.mark.parametrize(
    "answer", [{}, {"chatgpt_account_id": "org-1"}, {"chatgpt_account_id": "a b", "chatgpt_user_id": "user-1"}]
)
async def test_an_answer_without_an_owner_is_transient(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = answering(monkeypatch, json=answer)
    with pytest.raises(IssuerUnavailable, match="did not say whose"):
        await made.identify(Secret("at-1"))


async def test_a_personal_access_token_is_not_sent_without_tls() -> None:
    with pytest.raises(InsecureTransport, match="CODEX_AUTHAPI_BASE_URL"):
        HttpTokenAuthority("https://issuer.example", "app", authapi_url="http://elsewhere.example")


@pytest.mark.parametrize("mode", ["html", "empty", "huge", "reset", "lost", "garbage", "redirect", "error_200"])
async def test_an_answer_that_is_none_is_transient(issuer: LoopbackIssuer, authority: Any, mode: str) -> None:
    seeded = issuer.seed()
    issuer.behave(mode=mode)
    before = issuer.stats()["requests"].get("/oauth/token", 0)
    with pytest.raises(IssuerUnavailable, match=r"^127\.0\.0\.1:\d+ "):
        await authority.refresh(Secret(seeded["refresh_token"]))
    assert issuer.stats()["requests"]["/oauth/token"] == before + 1
    assert "/oauth/elsewhere" not in issuer.stats()["requests"]


@pytest.mark.parametrize(
    ("error", "delivery"),
    [
        (httpx.ReadError(""), Delivery.UNKNOWN),
        (httpx.ReadTimeout(""), Delivery.UNKNOWN),
        (httpx.RemoteProtocolError(""), Delivery.UNKNOWN),
        (TimeoutError(), Delivery.UNKNOWN),
        (httpx.ConnectError(""), Delivery.NOT_SENT),
        (httpx.ConnectTimeout(""), Delivery.NOT_SENT),
        (httpx.ProxyError(""), Delivery.NOT_SENT),
        (OSError(), Delivery.NOT_SENT),
    ],
)
async def test_a_lost_answer_is_told_from_a_request_that_was_not_sent(
    monkeypatch: pytest.MonkeyPatch, error: Any, delivery: Any
) -> None:
    def fail(request: httpx.Request) -> NoReturn:
        raise error

    real = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **kw: real(transport=httpx.MockTransport(fail), **kw))
    failed = await outcome(HttpTokenAuthority("https://issuer.example", "app"))
    assert failed.delivery is delivery
    assert "issuer.example" in str(failed) and "try again" in str(failed)


@pytest.mark.parametrize(
    ("status", "response", "delivery"),
    [
        (200, {"json": {}}, Delivery.UNKNOWN),
        (200, {"content": b"<html>"}, Delivery.UNKNOWN),
        (200, {"content": bytes(2 * LONGEST_ANSWER)}, Delivery.UNKNOWN),
        (200, {"content": b"no gzip", "headers": {"content-encoding": "gzip"}, "is_packed": True}, Delivery.UNKNOWN),
        (500, {}, Delivery.UNKNOWN),
        (502, {}, Delivery.UNKNOWN),
        (504, {}, Delivery.UNKNOWN),
        (503, {}, Delivery.NOT_PROCESSED),
        (429, {}, Delivery.NOT_PROCESSED),
        (400, {}, Delivery.REFUSED),
        (302, {}, Delivery.REFUSED),
    ],
)
async def test_an_answer_that_is_none_may_stand_in_the_place_of_one(
    monkeypatch: pytest.MonkeyPatch, status: int, response: Any, delivery: Any
) -> None:
    """A gateway that gives up, say: then the token may be spent, and a later refusal has its cause here."""
    make = packed if response.pop("is_packed", False) else httpx.Response
    failed = await outcome(answered_with(monkeypatch, lambda: make(status, **response)))
    assert isinstance(failed, IssuerUnavailable)
    assert failed.delivery is delivery


async def test_an_answer_may_be_packed_though_nobody_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    body = gzip.compress(b'{"access_token": "a", "refresh_token": "next"}')
    for coding in ("gzip", "x-gzip", "GZIP"):
        authority = answered_with(
            monkeypatch, lambda coding=coding: packed(200, content=body, headers={"content-encoding": coding})
        )
        assert (await authority.refresh(Secret(SENT))).refresh_token == Secret("next")


async def test_an_answer_that_is_unpacked_takes_no_more_room_than_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(300)), packer.flush()])
    headers = {"content-encoding": "gzip"}
    authority = answered_with(monkeypatch, lambda: packed(200, content=bomb, headers=headers))
    tracemalloc.start()
    failed = await outcome(authority)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "more than 1048576 bytes" in str(failed)
    assert peak < 8 * LONGEST_ANSWER


async def test_an_issuer_that_hangs_is_given_up_on(issuer: LoopbackIssuer) -> None:
    issuer.behave(mode="hang", times=1)
    authority = HttpTokenAuthority(issuer.url, "app", timeout=0.2)
    with pytest.raises(IssuerUnavailable, match=r"within 0\.2 seconds"):
        await authority.refresh(Secret(SENT))
    await authority.aclose()


async def test_a_rotation_without_an_access_token_keeps_the_new_refresh_token(
    issuer: LoopbackIssuer, authority: Any
) -> None:
    seeded = issuer.seed()
    issuer.behave(mode="partial", times=1)
    with pytest.raises(PartialRefresh) as partial:
        await authority.refresh(Secret(seeded["refresh_token"]))
    assert (await authority.refresh(partial.value.refresh_token)).access_token


async def test_nobody_listens() -> None:
    authority = HttpTokenAuthority("http://127.0.0.1:9", "app")
    with pytest.raises(IssuerUnavailable, match=r"127\.0\.0\.1:9 cannot be reached"):
        await authority.refresh(Secret(SENT))


async def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    authority, requests = answering(monkeypatch, json={"access_token": "a"})
    answer = await authority.refresh(Secret(SENT))
    assert (answer.access_token, answer.refresh_token, answer.id_token) == (Secret("a"), None, None)
    await authority.revoke(Secret(SENT))
    refresh, revoke = requests
    assert str(refresh.url) == "https://issuer.example/oauth/token"
    assert httpx.Response(200, content=refresh.content).json() == {
        "client_id": "app",
        "grant_type": "refresh_token",
        "refresh_token": SENT,
    }
    assert str(revoke.url) == "https://issuer.example/oauth/revoke"
    assert httpx.Response(200, content=revoke.content).json() == {
        "token": SENT,
        "token_type_hint": "refresh_token",
        "client_id": "app",
    }
    assert refresh.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("refresh_token_expired", RefreshDeadReason.EXPIRED),
        ("Refresh_Token_REUSED", RefreshDeadReason.EXHAUSTED),
        ("refresh_token_invalidated", RefreshDeadReason.REVOKED),
    ],
)
@pytest.mark.parametrize("place", ["nested", "plain", "beside"])
async def test_a_known_code_is_permanent_at_any_status(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, reason: Any, place: Any
) -> None:
    body = {"nested": {"error": {"code": code}}, "plain": {"error": code}, "beside": {"code": code}}[place]
    error = await outcome(answering(monkeypatch, status, json=body)[0])
    assert isinstance(error, PermanentRefreshError)
    assert error.reason is reason


@pytest.mark.parametrize("response", [{}, {"html": "<p>"}, {"json": {"error": {"code": "new"}}}, {"json": [1]}])
async def test_401_with_anything_else_is_permanent(monkeypatch: pytest.MonkeyPatch, response: Any) -> None:
    error = await outcome(answering(monkeypatch, 401, **response)[0])
    assert isinstance(error, PermanentRefreshError)
    assert error.reason is RefreshDeadReason.UNKNOWN
    assert "issuer.example" in str(error)


@pytest.mark.parametrize("status", [302, 400, 403, 404, 408, 429, 500, 503])
async def test_every_other_status_is_transient(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    error = await outcome(answering(monkeypatch, status, json={"error": "no_such_code"})[0])
    assert isinstance(error, IssuerUnavailable)
    assert f"status {status}" in str(error)
    assert "issuer.example" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7, "refresh_token": ["x"]},
        {"access_token": "two\nlines"},
        {"refresh_token": SENT},
        {"error": {"code": "server_error"}},
        {"error": [{}], "code": {"code": 1}},
    ],
)
async def test_a_success_without_tokens_is_transient(monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    assert isinstance(await outcome(answering(monkeypatch, json=body)[0]), IssuerUnavailable)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"null", b'{"access_token": "a"'])
async def test_a_body_that_is_no_object_is_transient(monkeypatch: pytest.MonkeyPatch, content: Any) -> None:
    assert isinstance(await outcome(answering(monkeypatch, content=content)[0]), IssuerUnavailable)


@pytest.mark.parametrize("status", [200, 400, 401, 500])
async def test_a_new_refresh_token_is_kept_whatever_else_is_wrong(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    body = {"refresh_token": "rt_the-next", "error": {"code": "refresh_token_reused"}}
    error = await outcome(answering(monkeypatch, status, json=body)[0])
    assert isinstance(error, PartialRefresh)
    assert error.refresh_token == Secret("rt_the-next")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "1e300"}, 86400),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 86400),
        ({"retry-after": formatdate(1_000_060, usegmt=True), "date": formatdate(1_000_000, usegmt=True)}, 60),
        ({"retry-after": formatdate(1_000_060, usegmt=True)}, 0),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(monkeypatch: pytest.MonkeyPatch, headers: Any, seconds: float, status: int) -> None:
    error = await outcome(answering(monkeypatch, status, headers=headers)[0])
    assert isinstance(error, IssuerUnavailable)
    assert error.retry_after == seconds
    assert len(str(error)) < 100


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://host/x", "http://", "http://[::1", "http://host:port/", "http://h\n/"]
)
async def test_a_malformed_override_is_named(url: str) -> None:
    authority = HttpTokenAuthority("https://issuer.example", "app", refresh_url=url)
    with pytest.raises(IssuerUnavailable, match="CODEX_REFRESH_TOKEN_URL_OVERRIDE"):
        await authority.refresh(Secret(SENT))
    with pytest.raises(IssuerUnavailable, match="CODEX_REFRESH_TOKEN_URL_OVERRIDE"):
        await authority.revoke(Secret(SENT))
    authority = HttpTokenAuthority("https://issuer.example", "app", revoke_url=url)
    with pytest.raises(IssuerUnavailable, match="CODEX_REVOKE_TOKEN_URL_OVERRIDE"):
        await authority.revoke(Secret(SENT))
    authority = HttpTokenAuthority(url, "app")
    with pytest.raises(IssuerUnavailable, match="CODEX_APP_SERVER_LOGIN_ISSUER"):
        await authority.refresh(Secret(SENT))


async def test_a_token_is_revoked_where_it_was_refreshed(issuer: LoopbackIssuer) -> None:
    seeded = issuer.seed()
    authority = HttpTokenAuthority("http://127.0.0.1:9", "app", refresh_url=issuer.refresh_url)
    await authority.revoke(Secret(seeded["refresh_token"]))
    await authority.aclose()
