"""What comes back to the loopback port and is no answer of the issuer: it is refused, and the sign-in still waits."""

import asyncio
import hmac
from html import unescape

import pytest
from support.login_harness import LoginHarness, agree, asked, follow_redirect, get, target, until, until_exchanging

from authstate.testing import LoopbackIssuer

WRONG = "This link does not belong to the sign-in"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=ac_stolen",
        "state=&code=ac_stolen",
        "state=forged&code=ac_stolen",
        "state={state}x&code=ac_stolen",
        "state={STATE}&code=ac_stolen",
        "state={state}&state={state}&code=ac_stolen",
        "state=forged&state={state}&code=ac_stolen",
        "state[]={state}&code=ac_stolen",
        "STATE={state}&code=ac_stolen",
        "state=%FF%00%E2%98%83&code=ac_stolen",
        "state=forged&error=access_denied",
        "error=access_denied&error_description=give+up",
        "state={state}&" + "&".join(f"more={number}" for number in range(40)),
    ],
)
async def test_a_state_that_is_not_ours_is_refused_and_the_sign_in_waits(
    harness: LoginHarness, loopback: LoopbackIssuer, query: str
) -> None:
    login = await harness.start()
    state = asked(login)["state"]
    answer = await get(login.port, "/auth/callback?" + query.format(state=state, STATE=state.swapcase()))
    assert (answer.status, answer.title) == (400, WRONG)
    assert (login.attempt.state, harness.outcomes) == ("pending", [])
    assert (await follow_redirect(login, agree(login, loopback))).title == "You are signed in"


async def test_the_state_is_compared_in_constant_time(harness: LoginHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    login = await harness.start()
    await get(login.port, "/auth/callback?state=forged")
    assert compared == [(b"forged", asked(login)["state"].encode())]


async def test_every_sign_in_has_secrets_of_its_own(harness: LoginHarness) -> None:
    logins = [await harness.start() for _ in range(3)]
    for name in ("state", "code_challenge"):
        values = {asked(login)[name] for login in logins}
        assert len(values) == 3
        assert min(map(len, values)) >= 43, "256 bits"
    old, now = logins[1], logins[2]
    assert (await get(now.port, target(old, code="ac_old"))).title == WRONG


async def test_a_callback_that_comes_twice_is_answered_once(harness: LoginHarness, loopback: LoopbackIssuer) -> None:
    loopback.hold("exchange", times=1)
    before = loopback.stats()["exchanges"]
    login = await harness.start()
    address = agree(login, loopback)
    first = asyncio.create_task(get(login.port, address))
    await until_exchanging(login)
    again = [await get(login.port, address), await get(login.port, target(login, error="access_denied"))]
    assert [(answer.status, answer.title) for answer in again] == [(409, "This link was already used")] * 2
    loopback.release("exchange")
    assert (await first).location == "/done"
    assert (await get(login.port, address)).status == 409
    assert (await get(login.port, "/done")).title == "You are signed in"
    assert loopback.stats()["exchanges"] == before + 1
    assert [event.success for event in harness.outcomes] == [True]


@pytest.mark.parametrize("parameters", [{}, {"code": ""}, {"code": " "}, {"nothing": "here"}])
async def test_an_answer_without_a_code(harness: LoginHarness, parameters: dict[str, str]) -> None:
    login = await harness.start()
    page = await follow_redirect(login, target(login, **parameters))
    assert page.title == "Sign-in failed" and "without an authorization code" in page.text
    await login.closed()
    assert [event.success for event in harness.outcomes] == [False]
    harness.assert_unchanged()


async def test_two_codes_are_none(harness: LoginHarness) -> None:
    login = await harness.start()
    assert "without an authorization code" in (await follow_redirect(login, target(login, code="a") + "&code=b")).text


HTML = "<script>alert(1)</script><img src=//evil.example/x>"


@pytest.mark.parametrize(
    ("parameters", "code", "said"),
    [
        ({"error": "server_error"}, "server_error", None),
        ({"error": "server_error", "error_description": "come back later"}, "server_error", "come back later"),
        ({"error": "server_error", "error_description": HTML}, "server_error", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ({"error": HTML, "error_description": "x" * 5000}, None, "x" * 300 + "…"),
        ({"error": "", "error_description": "\x1b[2J\r\nSet-Cookie: a=b\u202e"}, None, "[2J Set-Cookie: a=b"),
        ({"error": "</code><b>", "error_description": ""}, "&lt;/code&gt;&lt;b&gt;", None),
        ({"error": "both", "code": "ac_1"}, "both", None),
        ({"error": "access_denied", "error_description": "ask your admin"}, "access_denied", "ask your admin"),
    ],
)
async def test_an_error_of_the_issuer_is_told_in_its_own_words_and_escaped(
    harness: LoginHarness, parameters: dict[str, str], code: str | None, said: str | None
) -> None:
    login = await harness.start()
    page = await follow_redirect(login, target(login, **parameters))
    assert page.title == "Sign-in failed" and "the sign-in" in page.text
    assert ("Error code of the issuer" in page.text) == (code is not None)
    assert code is None or f"<code>{code}</code>" in page.text
    assert ("which says" in page.text) == (said is not None)
    assert said is None or said in page.text
    for raw in ("<script", "<img", "<b>", "\x1b", "\r", "\u202e"):
        assert raw not in page.text
    assert not [name for name in page.headers if name == b"set-cookie"]
    await login.closed()
    [told] = harness.outcomes
    assert told.error is not None and told.error.isprintable() and len(told.error) < 500
    assert told.error.endswith(": start it again to sign in")
    assert code is None or unescape(code) in told.error or "declined" in told.error, "a terminal shows no page"
    harness.assert_unchanged()


# Cancelling with an address


async def test_cancelling_in_the_browser(harness: LoginHarness) -> None:
    login = await harness.start()
    page = await get(login.port, "/cancel", "Sec-Fetch-Site: none")
    assert (page.status, page.title) == (200, "Sign-in cancelled")
    await login.closed()
    assert [(event.success, event.error) for event in harness.outcomes] == [(False, "the login was cancelled")]


@pytest.mark.parametrize("site", ["cross-site", "same-site", "CROSS-SITE", "anything"])
async def test_a_page_of_another_site_cannot_cancel(harness: LoginHarness, site: str) -> None:
    login = await harness.start()
    assert (await get(login.port, "/cancel", f"Sec-Fetch-Site: {site}")).status == 404
    assert login.attempt.is_open


@pytest.mark.parametrize(
    ("headers", "host", "status"),
    [
        (["Referer: https://evil.example/"], None, 404),
        (["Referer: https://evil.example/", "Sec-Fetch-Site: none"], None, 404),
        (["Origin: https://evil.example"], None, 403),
        (["Origin: null"], None, 403),
        ([], "evil.example:{port}", 421),
    ],
)
async def test_a_page_of_another_site_that_the_browser_tells_of_in_another_way_cannot_cancel(
    harness: LoginHarness, headers: list[str], host: str | None, status: int
) -> None:
    """An older browser sends no `Sec-Fetch-Site`; a name of the web that leads here is DNS rebinding."""
    login = await harness.start()
    answer = await get(login.port, "/cancel", *headers, host=host and host.format(port=login.port))
    assert answer.status == status
    assert login.attempt.is_open


async def test_cancelling_what_is_over(harness: LoginHarness, loopback: LoopbackIssuer) -> None:
    login = await harness.start()
    assert (await get(login.port, agree(login, loopback))).location == "/done"
    page = await get(login.port, "/cancel")
    assert (page.status, page.title) == (409, "Nothing to cancel")
    await asyncio.wait_for(login.closed(), 30)  # and not for the time that a browser has
    assert login.attempt.state == "succeeded"


async def test_cancelling_while_it_is_being_stored_waits_for_the_end(
    harness: LoginHarness, loopback: LoopbackIssuer
) -> None:
    login = await harness.start()
    async with harness.store.locked():
        visit = asyncio.create_task(get(login.port, agree(login, loopback)))
        await until(lambda: login.attempt.is_storing)
        cancelling = asyncio.create_task(get(login.port, "/cancel"))
        assert (await get(login.port, "/")).status == 404
        assert not cancelling.done()
    await visit
    assert ((await cancelling).title, login.attempt.state) == ("Nothing to cancel", "succeeded")
    assert len(harness.outcomes) == 1


@pytest.mark.parametrize("path", ["/", "/done", "/auth", "/auth/callback/", "/AUTH/CALLBACK", "/cancel/", "//cancel"])
async def test_other_addresses_show_nothing(harness: LoginHarness, path: str) -> None:
    login = await harness.start()
    answer = await get(login.port, path)
    assert (answer.status, answer.title) == (404, "Nothing to see here")
    assert (await get(login.port, "/favicon.ico")).status == 204
    assert login.attempt.is_open


async def test_the_outcome_is_shown_once(harness: LoginHarness, loopback: LoopbackIssuer) -> None:
    login = await harness.start()
    await get(login.port, agree(login, loopback))
    shown = await asyncio.gather(*(get(login.port, "/done") for _ in range(3)), return_exceptions=True)
    assert [answer.title for answer in shown if not isinstance(answer, BaseException)].count("You are signed in") == 1
