"""Every page of the browser login in a real Chromium: reached as a person reaches it, looked at in four ways.

The screenshots are in test-output/pages.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser
from support.chromium import Tab, running
from support.login_harness import LoginHarness, target, until_exchanging

from authstate.adapters.oauth.browser_login import BrowserLogin
from authstate.adapters.oauth.issuer import Issuer
from authstate.engine.model.credentials import ChatgptTokens
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.policy import Policy
from authstate.testing import LoopbackIssuer

pytestmark = pytest.mark.asyncio(loop_scope="module")
HTML = "<script>document.title='gotcha'</script><img src=http://evil.example/x onerror=alert(1)>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    async with running(chromium) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    context = await browser.new_context()
    yield Tab(await context.new_page())
    await context.close()


@pytest.fixture(scope="module")
def running_issuer() -> Iterator[LoopbackIssuer]:
    with LoopbackIssuer() as started:
        yield started


@pytest.fixture
def issuer(running_issuer: LoopbackIssuer) -> LoopbackIssuer:
    """One for all tests here, which behaves when a test begins."""
    running_issuer.behave("exchange")
    running_issuer.set_person()
    return running_issuer


@pytest_asyncio.fixture(loop_scope="module")
async def harness(issuer: LoopbackIssuer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LoginHarness]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    made = LoginHarness(Issuer(issuer.url))
    async with made.engine:
        yield made


async def come_to_the_issuer(tab: Tab, login: BrowserLogin) -> None:
    await tab.page.goto(login.auth_url)
    assert await tab.heading() == "Sign in to app_EMoamEEZ73f0CkXaXp7hrann?"


async def press(tab: Tab, button: str) -> None:
    """Press a button of the issuer's page with the keyboard, and wait for the page that follows."""
    await tab.page.get_by_role("button", name=button).focus()
    async with tab.page.expect_navigation():
        await tab.page.keyboard.press("Enter")


def at(login: BrowserLogin, path: str) -> str:
    return f"http://localhost:{login.port}{path}"


async def assert_shown(tab: Tab, login: BrowserLogin, heading: str, name: str, path: str = "/done") -> None:
    """This page is shown, good for everybody, under an address that says nothing."""
    assert (await tab.heading(), tab.page.url) == (heading, at(login, path))
    await tab.assert_good(name)


async def test_success(harness: LoginHarness, tab: Tab, issuer: LoopbackIssuer) -> None:
    issuer.set_person(email="who@example.com", plan="pro")
    login = await harness.start()
    await come_to_the_issuer(tab, login)
    assert "who@example.com" in await tab.page.inner_text("main")
    await press(tab, "Agree")
    await assert_shown(tab, login, "You are signed in", "success")
    assert isinstance(harness.store.credentials, ChatgptTokens)
    assert harness.store.credentials.account.email == "who@example.com"
    await login.closed()
    assert [event.success for event in harness.outcomes] == [True]


async def test_declined(harness: LoginHarness, tab: Tab) -> None:
    login = await harness.start()
    await come_to_the_issuer(tab, login)
    await press(tab, "Decline")
    await assert_shown(tab, login, "Sign-in failed", "declined")
    assert await tab.page.get_by_role("definition").inner_text() == "access_denied"
    assert "declined on the issuer" in await tab.page.inner_text("main")
    harness.assert_unchanged()


async def test_an_error_of_the_issuer_with_html_in_it(harness: LoginHarness, tab: Tab) -> None:
    login = await harness.start()
    await tab.page.goto(at(login, target(login, error="server_error", error_description=HTML)))
    await assert_shown(tab, login, "Sign-in failed", "failed-html")
    assert HTML in await tab.page.inner_text("main"), "shown as it is, and as nothing but text"
    assert await tab.page.locator("img").count() == 0
    harness.assert_unchanged()


async def test_an_exchange_that_is_refused(harness: LoginHarness, tab: Tab, issuer: LoopbackIssuer) -> None:
    issuer.behave("exchange", mode="status", status=400, code="invalid_grant")
    login = await harness.start()
    await come_to_the_issuer(tab, login)
    await press(tab, "Agree")
    await assert_shown(tab, login, "Sign-in failed", "failed-refused")
    assert await tab.page.get_by_role("definition").inner_text() == "invalid_grant"
    harness.assert_unchanged()


async def test_an_issuer_that_answers_html(harness: LoginHarness, tab: Tab, issuer: LoopbackIssuer) -> None:
    issuer.behave("exchange", mode="html")
    login = await harness.start()
    await come_to_the_issuer(tab, login)
    await press(tab, "Agree")
    await assert_shown(tab, login, "Sign-in failed", "failed-unavailable")
    assert await tab.page.get_by_role("definition").count() == 0
    harness.assert_unchanged()


async def test_a_workspace_that_is_not_allowed(harness: LoginHarness, tab: Tab, issuer: LoopbackIssuer) -> None:
    harness.engine.set_policy(Policy(None, ("org-1", "org-of-a-long-name-that-must-wrap-on-a-phone-0123456789")))
    issuer.set_person(account_id="org-2")
    login = await harness.start()
    await come_to_the_issuer(tab, login)
    await press(tab, "Agree")
    await assert_shown(tab, login, "Sign-in failed", "failed-workspace")
    assert "org-of-a-long-name" in await tab.page.inner_text("main")
    harness.assert_unchanged()


async def test_a_store_that_cannot_be_written(harness: LoginHarness, tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise StoreUnavailable("/home/who/.codex/auth.json cannot be written (no space left on device): make room")

    login = await harness.start()
    monkeypatch.setattr(harness.store, "locked", full)
    await come_to_the_issuer(tab, login)
    await press(tab, "Agree")
    await assert_shown(tab, login, "Sign-in failed", "failed-store")
    assert "make room" in await tab.page.inner_text("main")
    assert "that sign-in still works" in await tab.page.inner_text("main")
    harness.assert_unchanged()


@pytest.mark.parametrize(
    ("how", "heading"),
    [("cancelled", "Sign-in cancelled"), ("expired", "Sign-in expired"), ("superseded", "Sign-in replaced")],
)
async def test_what_ends_it_while_the_browser_waits(
    harness: LoginHarness, tab: Tab, issuer: LoopbackIssuer, how: str, heading: str
) -> None:
    issuer.behave("exchange", mode="hang", times=1)
    login = await harness.start()
    await come_to_the_issuer(tab, login)
    pressing = asyncio.create_task(press(tab, "Agree"))
    await until_exchanging(login)
    if how == "cancelled":
        await harness.engine.cancel_login(login.attempt.login_id)
    elif how == "expired":
        await harness.clock.elapse(600)
    else:
        await harness.engine.log_out()
    await pressing
    assert login.attempt.state == how
    await assert_shown(tab, login, heading, how)
    assert harness.store.saves == 0


async def test_cancelling_in_the_browser(harness: LoginHarness, tab: Tab) -> None:
    login = await harness.start()
    await tab.page.goto(at(login, "/cancel"))
    await assert_shown(tab, login, "Sign-in cancelled", "cancelled-here", "/cancel")
    await login.closed()
    assert login.attempt.state == "cancelled"


async def test_a_link_that_is_not_ours_and_one_that_was_used(
    harness: LoginHarness, tab: Tab, issuer: LoopbackIssuer
) -> None:
    login = await harness.start()
    await tab.page.goto(at(login, "/auth/callback?state=forged&code=ac_forged"))
    assert await tab.heading() == "This link does not belong to the sign-in"
    await tab.assert_good("wrong-link")
    await tab.page.goto(at(login, "/"))
    await assert_shown(tab, login, "Nothing to see here", "not-found", "/")
    assert login.attempt.is_open
    issuer.hold("exchange", times=1)
    await come_to_the_issuer(tab, login)
    pressing = asyncio.create_task(press(tab, "Agree"))
    await until_exchanging(login)
    second = Tab(await tab.page.context.new_page())
    await second.page.goto(at(login, target(login, code="ac_again")))
    assert await second.heading() == "This link was already used"
    await second.assert_good("used-link")
    await second.page.goto("about:blank")
    issuer.release("exchange")
    await pressing
    assert await tab.heading() == "You are signed in"


async def test_nothing_to_cancel(harness: LoginHarness, tab: Tab) -> None:
    login = await harness.start()
    answer = await tab.page.request.get(at(login, target(login, error="access_denied")), max_redirects=0)
    assert answer.status == 303
    await tab.page.goto(at(login, "/cancel"))
    await assert_shown(tab, login, "Nothing to cancel", "nothing-to-cancel", "/cancel")


# Others on the web


@pytest.mark.parametrize("host", ["rebound.example", "localhost.evil.example"])
async def test_another_name_for_this_machine_is_no_way_in(harness: LoginHarness, tab: Tab, host: str) -> None:
    """DNS rebinding: a name of somebody else's that leads to 127.0.0.1."""
    login = await harness.start()
    address = target(login, code="ac_stolen")
    for path in (address, "/cancel", "/"):
        answer = await tab.page.goto(f"http://{host}:{login.port}{path}")
        assert answer is not None
        assert (answer.status, await answer.text()) == (421, "421 Misdirected Request\n")
    assert login.attempt.is_open


REACH = """async (url) => {
    const outcome = promise => promise.then(() => 'done', error => 'failed');
    const image = new Promise((yes, no) => Object.assign(new Image(), {onload: yes, onerror: no, src: url}));
    const frame = document.body.appendChild(Object.assign(document.createElement('iframe'), {src: url}));
    const framed = new Promise(yes => frame.onload = yes);
    return {
        read: await outcome(fetch(url)),
        blind: await outcome(fetch(url, {mode: 'no-cors'})),
        post: await outcome(fetch(url, {mode: 'no-cors', method: 'POST', body: 'x'})),
        image: await outcome(image),
        framed: await framed.then(() => 'done'),
        opened: frame.contentDocument === null ? 'out of reach' : 'open',
    };
}"""


async def test_a_page_of_another_site_can_neither_cancel_nor_read(
    harness: LoginHarness, tab: Tab, issuer: LoopbackIssuer
) -> None:
    login = await harness.start()
    await come_to_the_issuer(tab, login)
    for path in ("/cancel", "/auth/callback?state=forged&code=x", "/done"):
        reached = await tab.page.evaluate(REACH, at(login, path))
        assert (reached["read"], reached["image"], reached["opened"]) == ("failed", "failed", "out of reach"), path
    assert login.attempt.is_open
    await come_to_the_issuer(tab, login)
    await tab.page.evaluate("url => { location.href = url }", at(login, "/cancel"))
    await tab.page.get_by_role("heading", name="Nothing to see here").wait_for()
    assert login.attempt.is_open, "a link on another site does not cancel either"
