"""The fakes that other tests stand on."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import pytest

from authstate.engine.model.account import PlanType
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import IssuerUnavailable, ParentUnavailable, PermanentRefreshError, RefreshDeadReason
from authstate.engine.model.jwt_claims import read_jwt_claims
from authstate.engine.model.secret import Secret
from authstate.engine.ports import PartialRefresh
from authstate.testing import (
    NEVER,
    FakeAuthority,
    FakeParent,
    LoopbackIssuer,
    ManualClock,
    MemoryStore,
    make_external_tokens,
    make_jwt,
    make_tokens,
)


@pytest.fixture
def issuer() -> Iterator[Any]:
    """One for each test: it counts and remembers what it was asked."""
    with LoopbackIssuer() as running:
        yield running


def post(url: str, body: Any) -> Any:
    request = Request(url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=60) as response:
        return json.loads(response.read())


def get(url: str, token: str) -> Any:
    request = Request(url, headers={"Authorization": f"Bearer {token}"})
    with build_opener(ProxyHandler({})).open(request, timeout=60) as response:
        return json.loads(response.read())


def spend(issuer: LoopbackIssuer, token: str) -> Any:
    return post(issuer.refresh_url, {"grant_type": "refresh_token", "refresh_token": token})


def test_tokens_name_their_account() -> None:
    tokens = make_tokens(email="a@b.c", account_id="org-9", plan="PRO", expires_in=60, now=1000)
    assert (tokens.account.email, tokens.account.account_id) == ("a@b.c", "org-9")
    assert tokens.account.plan_type is PlanType.PRO
    assert tokens.expires_at == 1060
    assert tokens.last_refresh == 1000
    assert not tokens.is_same_material_as(make_tokens())


def test_tokens_without_anything() -> None:
    tokens = make_tokens(email=None, account_id=None, user_id=None, plan=None, expires_in=None)
    assert tokens.account.email is None
    assert tokens.account.account_id is None
    assert tokens.expires_at is None


def test_external_tokens_and_jwts() -> None:
    external = make_external_tokens(account_id="org-2", plan="team")
    assert external.account.account_id == "org-2"
    assert external.account.plan_type is PlanType.TEAM
    assert read_jwt_claims(make_jwt(sub="x"), "token") == {"sub": "x"}


def test_a_wall_clock_jump_wakes_nobody_and_moves_no_duration() -> None:
    clock = ManualClock(now=100)
    clock.jump_wall(-50)
    assert (clock.now(), clock.monotonic()) == (50, 0)
    clock.advance(5)
    assert (clock.now(), clock.monotonic()) == (55, 5)
    with pytest.raises(ValueError):
        clock.advance(-1)


async def test_sleepers_wake_in_the_order_of_their_time() -> None:
    clock = ManualClock()
    woken = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with asyncio.TaskGroup() as tasks:
        for seconds in (3, 1, 2, 0):
            tasks.create_task(sleep(seconds))
        await clock.until_asleep(3)
        clock.advance(2)
        await clock.settle()
        assert woken == [0, 1, 2]
        assert clock.sleepers == 1
        clock.advance(1)
    assert woken == [0, 1, 2, 3]


async def test_elapse_goes_through_every_moment() -> None:
    clock = ManualClock()
    moments = []

    async def tick() -> None:
        for _ in range(3):
            await clock.sleep(10)
            moments.append(clock.monotonic())

    task = asyncio.create_task(tick())
    await clock.elapse(25)
    assert moments == [10, 20]
    task.cancel()
    await clock.settle()
    assert clock.sleepers == 0
    assert clock.monotonic() == 25
    with pytest.raises(AssertionError):
        await clock.until_asleep(rounds=3)


async def test_a_refresh_token_works_once() -> None:
    clock = ManualClock(now=1000)
    authority = FakeAuthority(clock=clock, expires_in=60)
    tokens = authority.issue(account_id="org-3")
    answer = await authority.refresh(tokens.refresh_token)
    assert answer.refresh_token is not None and answer.id_token is not None
    assert authority.live == {answer.refresh_token.reveal()}
    renewed = ChatgptTokens.read(
        id_token=answer.id_token.reveal(),
        access_token=answer.access_token.reveal(),
        refresh_token=answer.refresh_token.reveal(),
    )
    assert renewed.account == tokens.account
    assert renewed.expires_at == 1060
    with pytest.raises(PermanentRefreshError) as refused:
        await authority.refresh(tokens.refresh_token)
    assert refused.value.reason is RefreshDeadReason.EXHAUSTED
    assert authority.sent == [tokens.refresh_token.reveal()] * 2
    assert len(authority.grants) == 1


async def test_the_ways_an_authority_refuses() -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    authority.fail_next(IssuerUnavailable("overloaded"), times=2)
    for _ in range(2):
        with pytest.raises(IssuerUnavailable):
            await authority.refresh(tokens.refresh_token)
    authority.answer_without_access_token_next()
    with pytest.raises(PartialRefresh) as partial:
        await authority.refresh(tokens.refresh_token)
    authority.kill(RefreshDeadReason.EXPIRED)
    with pytest.raises(PermanentRefreshError) as dead:
        await authority.refresh(partial.value.refresh_token)
    assert dead.value.reason is RefreshDeadReason.EXPIRED
    with pytest.raises(PermanentRefreshError) as unknown:
        await authority.refresh(Secret("never issued"))
    assert unknown.value.reason is RefreshDeadReason.UNKNOWN


async def test_revocation_in_memory() -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    authority.fail_revoke(IssuerUnavailable("down"))
    with pytest.raises(IssuerUnavailable):
        await authority.revoke(tokens.refresh_token)
    authority.fail_revoke(None)
    await authority.revoke(tokens.refresh_token)
    await authority.revoke(tokens.refresh_token)
    assert len(authority.revoked) == 3
    with pytest.raises(PermanentRefreshError) as dead:
        await authority.refresh(tokens.refresh_token)
    assert dead.value.reason is RefreshDeadReason.REVOKED


async def test_a_held_answer_has_spent_the_token_already() -> None:
    tokens = make_tokens()
    authority = FakeAuthority(tokens)
    authority.hold()
    task = asyncio.create_task(authority.refresh(tokens.refresh_token))
    await authority.asked()
    assert tokens.refresh_token.reveal() not in authority.live
    assert not task.done()
    authority.release()
    answered = (await task).refresh_token
    assert answered is not None and answered.reveal() in authority.live


async def test_a_parent_answers_in_order() -> None:
    tokens = make_external_tokens()
    parent = FakeParent(tokens, ValueError("no"), NEVER)
    assert await parent.request_tokens(previous_account_id="org-1") is tokens
    with pytest.raises(ValueError):
        await parent.request_tokens(previous_account_id=None)
    question = asyncio.create_task(parent.request_tokens(previous_account_id=None))
    await asyncio.sleep(0)
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    with pytest.raises(ParentUnavailable):
        await parent.request_tokens(previous_account_id=None)
    parent.will_answer(tokens)
    assert await parent.request_tokens(previous_account_id=None) is tokens
    assert parent.asked == ["org-1", None, None, None, None]
    assert (parent.count, parent.cancelled) == (5, 1)


def test_names_are_loaded_when_they_are_named() -> None:
    import authstate.testing as testing

    assert MemoryStore().describe()
    assert "LoopbackIssuer" in dir(testing)
    with pytest.raises(AttributeError):
        _ = testing.nothing  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]


def test_the_loopback_issuer_rotates_and_refuses(issuer: LoopbackIssuer) -> None:
    seeded = issuer.seed(account_id="org-5", email="e@f.g", plan="pro", expires_in=-5)
    tokens = ChatgptTokens.read(**seeded)
    assert tokens.account.account_id == "org-5"
    with pytest.raises(HTTPError) as expired:
        get(issuer.backend_url + "/wham/usage", seeded["access_token"])
    assert expired.value.code == 401
    renewed = spend(issuer, seeded["refresh_token"])
    assert get(issuer.backend_url + "/wham/usage", renewed["access_token"])["plan_type"] == "pro"
    accounts = get(issuer.backend_url + "/wham/accounts/check", renewed["access_token"])["accounts"]
    assert accounts[0]["id"] == "org-5"
    with pytest.raises(HTTPError) as reused:
        spend(issuer, seeded["refresh_token"])
    assert json.loads(reused.value.read())["error"]["code"] == "refresh_token_reused"
    issuer.expire_access()
    with pytest.raises(HTTPError):
        get(issuer.backend_url + "/wham/usage", renewed["access_token"])
    issuer.revoke()
    with pytest.raises(HTTPError) as revoked:
        spend(issuer, renewed["refresh_token"])
    assert json.loads(revoked.value.read())["error"]["code"] == "refresh_token_invalidated"
    stats = issuer.stats()
    assert stats["refreshes_accepted"] == 1
    assert stats["refreshes_refused"] == 2
    assert stats["requests"]["/oauth/token"] == 3
    assert len(set(stats["refresh_tokens_sent"])) == 2


def test_a_device_signs_in_on_loopback(issuer: LoopbackIssuer) -> None:
    begun = post(issuer.url + "/api/accounts/deviceauth/usercode", {"client_id": "app"})
    poll = {name: begun[name] for name in ("device_auth_id", "user_code")}
    with pytest.raises(HTTPError) as pending:
        post(issuer.url + "/api/accounts/deviceauth/token", poll)
    assert pending.value.code == 403
    issuer.approve_device(begun["user_code"], email="device@example.com")
    granted = post(issuer.url + "/api/accounts/deviceauth/token", poll)
    form = f"grant_type=authorization_code&code={granted['authorization_code']}"
    exchange = Request(issuer.refresh_url, data=f"{form}&code_verifier={granted['code_verifier']}".encode())
    with build_opener(ProxyHandler({})).open(exchange, timeout=60) as response:
        assert ChatgptTokens.read(**json.loads(response.read())).account.email == "device@example.com"
    with pytest.raises(HTTPError) as used:
        build_opener(ProxyHandler({})).open(exchange, timeout=60)
    assert used.value.code == 400


def test_a_code_is_bound_to_its_challenge(issuer: LoopbackIssuer) -> None:
    issuer.register_code("a-code", code_challenge="another")
    exchange = Request(issuer.refresh_url, data=b"grant_type=authorization_code&code=a-code&code_verifier=x")
    with pytest.raises(HTTPError) as refused:
        build_opener(ProxyHandler({})).open(exchange, timeout=60)
    assert refused.value.code == 400


ASKED = {
    "response_type": "code",
    "client_id": "app",
    "scope": "openid",
    "redirect_uri": "http://localhost:1/auth/callback",
    "state": "a&b",
    "code_challenge": "abc",
    "code_challenge_method": "S256",
}


def way_back(issuer: LoopbackIssuer, form: Any) -> Any:
    """Where the issuer's page sends a browser that answered with these fields."""

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
            return None

    with pytest.raises(HTTPError) as redirect:
        build_opener(ProxyHandler({}), Stay()).open(f"{issuer.url}/oauth/authorize", urlencode(form).encode(), 60)
    assert redirect.value.code == 303
    place, _, query = redirect.value.headers["Location"].partition("?")
    assert place == ASKED["redirect_uri"]
    return dict(parse_qsl(query))


def test_a_person_agrees_or_declines_on_the_page_of_the_loopback_issuer(issuer: LoopbackIssuer) -> None:
    issuer.set_person(email="<who>@example.com")
    with build_opener(ProxyHandler({})).open(f"{issuer.url}/oauth/authorize?{urlencode(ASKED)}", timeout=60) as page:
        text = page.read().decode()
    assert "&lt;who&gt;@example.com" in text and 'value="a&amp;b"' in text and "<who>" not in text
    bound = {name: ASKED[name] for name in ("redirect_uri", "state", "code_challenge")}
    declined = way_back(issuer, {**bound, "answer": "decline"})
    assert declined == {"error": "access_denied", "error_description": "The person declined", "state": "a&b"}
    agreed = way_back(issuer, {**bound, "answer": "agree"})
    assert set(agreed) == {"code", "state"}
    exchange = Request(issuer.refresh_url, data=urlencode({**agreed, "grant_type": "authorization_code"}).encode())
    with pytest.raises(HTTPError) as refused:
        build_opener(ProxyHandler({})).open(exchange, timeout=60)
    assert refused.value.code == 400, "the code is bound to the challenge and to the redirect"


@pytest.mark.parametrize("name", ["redirect_uri", "state", "code_challenge", "code_challenge_method", "response_type"])
def test_the_page_is_not_shown_for_parameters_that_cannot_be_answered(issuer: LoopbackIssuer, name: str) -> None:
    for value in ("", "https://elsewhere.example/auth/callback"):
        query = urlencode({**ASKED, name: value})
        if value and name in ("state", "code_challenge"):
            continue
        with pytest.raises(HTTPError) as refused:
            build_opener(ProxyHandler({})).open(f"{issuer.url}/oauth/authorize?{query}", timeout=60)
        assert name in json.loads(refused.value.read())["error"]["code"]


def test_the_loopback_issuer_ends_with_its_pipe() -> None:
    issuer = LoopbackIssuer().start()
    process = issuer._process
    assert process is not None and process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    issuer.stop()
    issuer.stop()


def arrived(issuer: LoopbackIssuer, count: int) -> None:
    while len(issuer.stats()["refresh_tokens_sent"]) < count:  # each look is a round trip to the issuer
        pass


@pytest.mark.parametrize(("what", "accepted"), [("request", 0), ("answer", 1)])
def test_a_held_request_waits_until_it_is_released(
    issuer: LoopbackIssuer, what: Literal["request", "answer"], accepted: int
) -> None:
    token = issuer.seed()["refresh_token"]
    issuer.hold("refresh", what)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(spend, issuer, token)
        arrived(issuer, 1)
        while issuer.stats()["refreshes_accepted"] < accepted:  # a token that arrived is served a moment later
            pass
        issuer.behave("refresh")  # for later requests: nothing is released
        assert spend(issuer, issuer.seed()["refresh_token"])["access_token"]
        assert issuer.stats()["refreshes_accepted"] == 1 + accepted
        assert not waiting.done()
        issuer.release("refresh")
        assert waiting.result(timeout=30)["access_token"]


def test_one_of_two_requests_is_held(issuer: LoopbackIssuer) -> None:
    first, second = issuer.seed()["refresh_token"], issuer.seed()["refresh_token"]
    issuer.hold("refresh", times=1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(spend, issuer, first)
        arrived(issuer, 1)
        assert spend(issuer, second)["access_token"]
        issuer.release("refresh")
        assert waiting.result(timeout=30)["access_token"]


def test_an_issuer_that_ends_lets_nobody_wait(issuer: LoopbackIssuer) -> None:
    issuer.hold("refresh")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(spend, issuer, issuer.seed()["refresh_token"])
        arrived(issuer, 1)
        issuer.stop()
        assert isinstance(waiting.exception(timeout=30), OSError)


def test_a_mistaken_behaviour_is_named(issuer: LoopbackIssuer) -> None:
    with pytest.raises(ValueError, match="no endpoint 'refreshh': use one of authorize, refresh"):
        issuer.behave("refreshh", mode="hang")
    with pytest.raises(ValueError, match="'request', 'answer' or 'middle', and is 'requests'"):
        issuer.hold("refresh", "requests")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1, and is 0"):
        issuer.hold("refresh", times=0)
