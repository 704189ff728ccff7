"""The device authorization endpoint over real HTTP on loopback, and the answers that only a mock can give."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from authstate.adapters.oauth.device_endpoint import (
    DEFAULT_INTERVAL,
    DeviceApproval,
    DeviceCode,
    DeviceCodeExpired,
    DeviceCodeNotEnabled,
    HttpDeviceEndpoint,
    SlowDown,
)
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.model.errors import IssuerUnavailable, LoginFailed
from authstate.engine.model.secret import Secret
from authstate.testing import LoopbackIssuer

CODE = DeviceCode(Secret("device-CaNaRy"), "ABCD-0001", 5.0, "https://issuer.example/codex/device")
GIVEN = {"device_auth_id": "device-1", "user_code": "ABCD-0001", "interval": "7"}
APPROVED = {"authorization_code": "ac_1", "code_challenge": "c", "code_verifier": "v"}


@pytest.fixture(scope="module")
def running() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as issuer:
        yield issuer


def answering(
    monkeypatch: pytest.MonkeyPatch, status: int, **response: Any
) -> tuple[HttpDeviceEndpoint, list[httpx.Request]]:
    """An endpoint whose issuer answers with this; and the requests that it got."""
    requests = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(status, **response)

    real = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **kw: real(transport=httpx.MockTransport(answer), **kw))
    return HttpDeviceEndpoint(Issuer("https://issuer.example/", "app")), requests


async def test_a_whole_device_login(running: LoopbackIssuer) -> None:
    endpoint = HttpDeviceEndpoint(Issuer(running.url, "app"))
    code = await endpoint.request()
    assert code.verification_url == f"{running.url}/codex/device"
    assert code.interval == 1.0
    assert await endpoint.poll(code) is None
    running.approve_device(code.user_code, email="who@example.com", account_id="org-7")
    approval = await endpoint.poll(code)
    assert approval is not None
    tokens = await endpoint.exchange(approval)
    assert (tokens.account.email, tokens.account.account_id) == ("who@example.com", "org-7")
    with pytest.raises(LoginFailed) as refused:
        await endpoint.exchange(approval)
    assert refused.value.code == "invalid_grant"
    await endpoint.aclose()


async def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, requests = answering(monkeypatch, 200, json=GIVEN)
    await endpoint.request()
    with pytest.raises(IssuerUnavailable):
        await endpoint.poll(CODE)
    assert [str(request.url) for request in requests] == [
        "https://issuer.example/api/accounts/deviceauth/usercode",
        "https://issuer.example/api/accounts/deviceauth/token",
    ]
    assert [msgspec.json.decode(request.content) for request in requests] == [
        {"client_id": "app"},
        {"device_auth_id": "device-CaNaRy", "user_code": "ABCD-0001"},
    ]


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [
        ("7", 7.0),
        (" 7.5 ", 7.5),
        (7, 7.0),
        ("0", 1.0),
        ("-3", 1.0),
        ("86400", 60.0),
        ("soon", DEFAULT_INTERVAL),
        ("nan", DEFAULT_INTERVAL),
        ("inf", DEFAULT_INTERVAL),
        pytest.param(10**400, DEFAULT_INTERVAL, id="more than a float holds"),
        (None, DEFAULT_INTERVAL),
        ([], DEFAULT_INTERVAL),
    ],
)
async def test_the_interval_within_reason(monkeypatch: pytest.MonkeyPatch, interval: object, seconds: float) -> None:
    endpoint, _ = answering(monkeypatch, 200, json=GIVEN | {"interval": interval})
    assert (await endpoint.request()).interval == seconds


async def test_the_other_spelling_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, _ = answering(monkeypatch, 200, json={"device_auth_id": "d", "usercode": "WXYZ-9"})
    code = await endpoint.request()
    assert (code.user_code, code.interval) == ("WXYZ-9", DEFAULT_INTERVAL)


async def test_device_codes_that_are_not_enabled_are_an_error_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, _ = answering(monkeypatch, 404, json={"error": {"code": "not_found"}})
    with pytest.raises(DeviceCodeNotEnabled, match="sign in with a browser") as refused:
        await endpoint.request()
    assert refused.value.code == "not_found"
    assert "issuer.example" in str(refused.value)


@pytest.mark.parametrize(
    ("status", "response", "error"),
    [
        (403, {"json": {"error": "forbidden_country"}}, LoginFailed),
        (400, {}, LoginFailed),
        (500, {}, IssuerUnavailable),
        (429, {}, IssuerUnavailable),
        (307, {}, IssuerUnavailable),
        (200, {"text": "<title>Sign in to this network</title>"}, IssuerUnavailable),
        (200, {"json": {"device_auth_id": "d"}}, IssuerUnavailable),
        (200, {"json": GIVEN | {"user_code": "\x1b[31mABCD"}}, IssuerUnavailable),
        (200, {"json": GIVEN | {"user_code": "A" * 65}}, IssuerUnavailable),
        (200, {"json": GIVEN | {"device_auth_id": 5}}, IssuerUnavailable),
    ],
)
async def test_no_code(
    monkeypatch: pytest.MonkeyPatch, status: int, response: dict[str, Any], error: type[Exception]
) -> None:
    endpoint, _ = answering(monkeypatch, status, **response)
    with pytest.raises(error, match=r"issuer\.example") as failed:
        await endpoint.request()
    assert not isinstance(failed.value, DeviceCodeNotEnabled)


@pytest.mark.parametrize(
    ("status", "response"),
    [
        (403, {}),
        (404, {}),
        (403, {"json": {"error": {"code": "deviceauth_authorization_pending"}}}),
        (403, {"json": {"error": {"code": "something_new"}}}),
        (400, {"json": {"error": "authorization_pending"}}),
    ],
)
async def test_the_person_has_not_agreed_yet(
    monkeypatch: pytest.MonkeyPatch, status: int, response: dict[str, Any]
) -> None:
    endpoint, _ = answering(monkeypatch, status, **response)
    assert await endpoint.poll(CODE) is None


async def test_the_person_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, _ = answering(monkeypatch, 200, json=APPROVED)
    assert await endpoint.poll(CODE) == DeviceApproval(Secret("ac_1"), Secret("v"))


@pytest.mark.parametrize(
    ("status", "response", "error", "code"),
    [
        (403, {"json": {"error": "access_denied"}}, LoginFailed, "access_denied"),
        (403, {"json": {"error": {"code": "deviceauth_access_denied"}}}, LoginFailed, "access_denied"),
        (400, {"json": {"error": "invalid_request"}}, LoginFailed, "invalid_request"),
        (401, {}, LoginFailed, None),
        (404, {"json": {"error": "expired_token"}}, DeviceCodeExpired, "expired_token"),
    ],
)
async def test_a_poll_that_ends_the_login(
    monkeypatch: pytest.MonkeyPatch, status: int, response: dict[str, Any], error: type[LoginFailed], code: str | None
) -> None:
    endpoint, _ = answering(monkeypatch, status, **response)
    with pytest.raises(LoginFailed) as failed:
        await endpoint.poll(CODE)
    assert type(failed.value) is error
    assert failed.value.code == code
    assert "CaNaRy" not in str(failed.value)
    assert "start" in str(failed.value).partition(": ")[2], "what to do"


@pytest.mark.parametrize(
    ("status", "response", "retry_after"),
    [
        (429, {}, None),
        (429, {"headers": {"Retry-After": "12"}}, 12.0),
        (400, {"json": {"error": "slow_down"}}, None),
        (403, {"json": {"error": {"code": "deviceauth_slow_down"}}}, None),
    ],
)
async def test_an_issuer_that_wants_fewer_questions(
    monkeypatch: pytest.MonkeyPatch, status: int, response: dict[str, Any], retry_after: float | None
) -> None:
    endpoint, _ = answering(monkeypatch, status, **response)
    with pytest.raises(SlowDown) as told:
        await endpoint.poll(CODE)
    assert told.value.retry_after == retry_after


@pytest.mark.parametrize(
    ("status", "response"),
    [
        (503, {}),
        (408, {}),
        (302, {}),
        (200, {"text": "<title>Sign in to this network</title>"}),
        (200, {"json": {"authorization_code": "ac"}}),
        (200, {"json": {"authorization_code": ["ac"], "code_verifier": {}}}),
    ],
)
async def test_a_poll_without_an_answer_may_be_asked_again(
    monkeypatch: pytest.MonkeyPatch, status: int, response: dict[str, Any]
) -> None:
    endpoint, _ = answering(monkeypatch, status, **response)
    with pytest.raises(IssuerUnavailable) as failed:
        await endpoint.poll(CODE)
    assert not isinstance(failed.value, SlowDown)


async def test_an_issuer_that_is_no_url_is_named_by_its_variable() -> None:
    with pytest.raises(IssuerUnavailable, match="CODEX_APP_SERVER_LOGIN_ISSUER"):
        await HttpDeviceEndpoint(Issuer("auth.example", "app")).request()


def test_a_code_shows_no_secret() -> None:
    shown = repr(CODE) + repr(DeviceApproval(Secret("CaNaRy"), Secret("CaNaRy")))
    assert "CaNaRy" not in shown
