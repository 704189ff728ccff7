"""The page of `authstate sandbox` and its sign-in pages in a real Chromium.

The screenshots are in test-output/pages.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect
from support.chromium import Tab, running
from support.sandbox_client import SandboxClient

from authstate.adapters.assembly import open_engine
from authstate.adapters.config import Environment, load_config
from authstate.adapters.oauth.browser_login import start_browser_login
from authstate.adapters.oauth.issuer import Issuer
from authstate.adapters.sandbox.home import fill
from authstate.adapters.sandbox.server import RunningSandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    async with running(chromium) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Browser, sandbox: RunningSandbox) -> AsyncIterator[Tab]:
    """A browser that shows the page of the sandbox."""
    context = await browser.new_context()
    tab = Tab(await context.new_page())
    await tab.page.goto(sandbox.pointing.url)
    await said(tab, "The sandbox is running.")
    yield tab
    await context.close()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[RunningSandbox]:
    with RunningSandbox(tmp_path) as started:
        fill(tmp_path, started, None)
        yield started


@pytest.fixture
def control(sandbox: RunningSandbox) -> Iterator[SandboxClient]:
    with httpx.Client(base_url=sandbox.pointing.url, trust_env=False, timeout=30) as http:
        yield SandboxClient(http)


async def said(tab: Tab, text: str) -> None:
    await expect(tab.page.get_by_role("status")).to_have_text(text)


async def press(tab: Tab, button: str) -> None:
    """Press a button with the keyboard."""
    await tab.page.get_by_role("button", name=button, exact=True).press("Enter")


async def test_it_is_good_for_everybody(tab: Tab, control: SandboxClient) -> None:
    tokens = control.sign_in(account="bob")
    control.refresh(tokens["refresh_token"])
    control.refresh(tokens["refresh_token"])
    control.post("faults", endpoint="refresh", fault="refuse", status=429, code="slow_down", times=3)
    await expect(tab.page.get_by_role("list", name="Open faults")).to_contain_text("for 3 more")
    await expect(tab.page.get_by_role("list", name="Requests, the newest first")).to_contain_text("/oauth/token: 401")
    await tab.assert_good("sandbox", scripts=1)
    shown = await tab.page.content()
    assert not [token for name, token in tokens.items() if name.endswith("_token") and token in shown]


async def test_it_shows_what_happens(tab: Tab, control: SandboxClient) -> None:
    rows = tab.page.get_by_role("list", name="Requests, the newest first").get_by_role("listitem")
    await expect(rows).to_have_text(["No request yet."])
    tokens = await asyncio.to_thread(control.sign_in)
    await asyncio.to_thread(control.usage, tokens["access_token"])
    await expect(rows).to_have_count(1)
    await expect(rows.first).to_contain_text("1. GET /backend-api/wham/usage: 200")
    await expect(rows.first).to_contain_text("ada, token ")
    await expect(tab.page.get_by_role("list", name="Logins")).to_contain_text("login-1 of ada: works")
    await asyncio.to_thread(control.post, "reset")
    await expect(rows).to_have_text(["No request yet."])
    assert not tab.complaints


async def test_its_buttons_do_what_the_api_does(tab: Tab, control: SandboxClient) -> None:
    access = (await asyncio.to_thread(control.sign_in))["access_token"]
    await tab.page.get_by_role("button", name="Expire the access tokens of login-1").press("Enter")
    await said(tab, "The access tokens of login-1 have expired.")
    assert await asyncio.to_thread(control.usage, access) == 401
    focused = await tab.page.evaluate("document.activeElement.id")
    assert focused == "expire-login-1", "who uses the keyboard stays where they were"
    await press(tab, "Revoke all logins")
    await said(tab, "1 login is revoked.")
    await expect(tab.page.get_by_role("list", name="Logins")).to_contain_text("login-1 of ada: is over")
    await tab.page.get_by_label("bob@example.com (plus)").check()
    await said(tab, "bob signs in next.")
    assert control.get("state")["person"] == "bob"
    await press(tab, "Lose the answer of the next refresh")
    await said(tab, "Ordered: Lose the answer of the next refresh.")
    await tab.page.get_by_role("combobox", name="Endpoint").select_option("backend")
    await tab.page.get_by_role("spinbutton", name="Requests").fill("2")
    await tab.page.get_by_label("Status").fill("403")
    await press(tab, "Order the fault")
    await said(tab, "Ordered: refuse at backend.")
    assert control.get("faults")["faults"] == [
        {"id": 1, "fault": "loseAnswer", "endpoint": "refresh", "times": 1, "timesLeft": 1},
        {"id": 2, "fault": "refuse", "endpoint": "backend", "times": 2, "status": 403, "timesLeft": 2},
    ]
    await tab.page.get_by_role("combobox", name="Fault").select_option("slow")
    await press(tab, "Order the fault")
    await said(tab, "That did not work: status belongs to the fault refuse, not to slow")
    await press(tab, "Serve all requests again")
    await said(tab, "All requests are served again.")
    await press(tab, "Begin anew")
    await said(tab, "The sandbox has begun anew.")
    assert control.get("logins") == {"logins": []}


async def test_a_person_chooses_who_signs_in(
    tab: Tab, sandbox: RunningSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    environment = Environment.read(sandbox.pointing.environment)
    async with open_engine(load_config(tmp_path), environment) as engine:
        login = await start_browser_login(engine, Issuer.of(environment), ports=(0,))
        await tab.page.goto(login.auth_url)
        assert not (await Axe().run(tab.page)).response["violations"]
        await tab.page.get_by_label("bob@example.com").check()
        async with tab.page.expect_navigation():
            await press(tab, "Agree")
        assert await tab.heading() == "You are signed in"
        assert engine.session.account is not None
        assert engine.session.account.email == "bob@example.com"


async def test_the_page_for_devices(tab: Tab, sandbox: RunningSandbox, control: SandboxClient) -> None:
    asked = control.http.post("/api/accounts/deviceauth/usercode", json={}).json()
    await tab.page.goto(f"{sandbox.pointing.url}/codex/device")
    assert not (await Axe().run(tab.page)).response["violations"]
    await tab.page.get_by_label("Code that the device shows").fill(asked["user_code"])
    async with tab.page.expect_navigation():
        await press(tab, "Approve")
    assert await tab.heading() == "You are signed in"
    poll = {"device_auth_id": asked["device_auth_id"], "user_code": asked["user_code"]}
    assert control.http.post("/api/accounts/deviceauth/token", json=poll).status_code == 200


async def test_a_page_of_another_site_reaches_nothing(browser: Browser, control: SandboxClient) -> None:
    access = (await asyncio.to_thread(control.sign_in))["access_token"]
    port = control.http.base_url.port
    page = await (await browser.new_context()).new_page()
    answer = await page.goto(f"http://rebound.example:{port}/")
    assert answer is not None
    assert answer.status == 421
    await page.route("http://evil.example/", lambda route: route.fulfill(content_type="text/html", body="<p>evil"))
    await page.goto("http://evil.example/")
    send = """([url, mode]) => fetch(url, {method: 'POST', mode}).then((answer) => answer.type, () => 'failed')"""
    url = f"http://127.0.0.1:{port}/sandbox/revoke"
    assert [await page.evaluate(send, [url, mode]) for mode in ("cors", "no-cors")] == ["failed", "failed"]
    assert await asyncio.to_thread(control.usage, access) == 200
    await page.context.close()
