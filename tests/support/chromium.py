"""Debian's Chromium without a screen, driven by Playwright, and the checks that every page must pass.

A page must be readable in each colour scheme and size, and accessible. The browser must log no error.
"""

from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect
from support.paths import REPO

expect.set_options(timeout=60_000)  # milliseconds, instead of five seconds
SCREENSHOTS = REPO / "test-output" / "pages"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
)


class Appearance(NamedTuple):
    """A colour scheme and a size of the viewport, in pixels."""

    name: str
    scheme: str
    width: int
    height: int


APPEARANCES = (
    Appearance("light", "light", 1100, 760),
    Appearance("dark", "dark", 1100, 760),
    Appearance("phone-light", "light", 360, 740),
    Appearance("phone-dark", "dark", 360, 740),
)


@asynccontextmanager
async def running(program: Path) -> AsyncIterator[Browser]:
    """Run a browser. Each new context has its own cookies, history and storage."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def with_profile(program: Path, folder: Path) -> AsyncIterator[BrowserContext]:
    """Run a browser that keeps its profile in a folder: history, cookies and storage."""
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(folder, executable_path=program, args=FLAGS)
        try:
            yield context
        finally:
            await context.close()


class Tab:
    """A page of the browser, and the errors that the browser logged while it was open."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url.partition('?')[0]}"))

    def _hear(self, message: ConsoleMessage) -> None:
        """Keep a message. Ignore the one about the 4xx status of the page itself, which some of our pages have."""
        own = message.location["url"] == self.page.url
        if not (own and message.text.startswith("Failed to load resource: the server responded with a status of 4")):
            self.complaints.append(f"{message.type}: {message.text}")

    async def heading(self) -> str:
        """The text of the main heading."""
        return (await self.page.get_by_role("heading", level=1).inner_text()).strip()

    async def assert_good(self, name: str, *, scripts: int = 0) -> None:
        """Check the page in each appearance, and save the screenshots as NAME-APPEARANCE.png.

        Args:
            name: of the screenshots.
            scripts: how many scripts the page has.

        Raises:
            AssertionError: it is not readable or not accessible, or the browser logged an error.
        """
        page = self.page
        assert not self.complaints, self.complaints
        assert await page.title() == f"{await self.heading()} – authstate"
        assert await page.locator("html").get_attribute("lang") == "en"
        assert await page.get_by_role("main").count() == await page.get_by_role("status").count() == 1
        assert await page.locator("script").count() == scripts
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        session = await page.context.new_cdp_session(page)
        for shown in APPEARANCES:
            scheme = {"name": "prefers-color-scheme", "value": shown.scheme}
            await session.send("Emulation.setEmulatedMedia", {"features": [scheme]})
            metrics = {
                "width": shown.width,
                "height": shown.height,
                "mobile": shown.width < 600,
                "deviceScaleFactor": 1,
            }
            await session.send("Emulation.setDeviceMetricsOverride", metrics)
            await self._assert_fits(shown)
            # Not `page.screenshot`, which puts the viewport back.
            shot = await session.send("Page.captureScreenshot", {"format": "png"})
            (SCREENSHOTS / f"{name}-{shown.name}.png").write_bytes(b64decode(shot["data"]))
            if shown.width < 600:
                await self._assert_accessible(shown)

    async def _assert_fits(self, shown: Appearance) -> None:
        measured: dict[str, Any] = await self.page.evaluate(
            """() => ({
                visible: window.innerWidth,
                wide: document.documentElement.scrollWidth,
                letters: Math.min(...[...document.querySelectorAll('main *')].filter(e => e.innerText)
                    .map(e => parseFloat(getComputedStyle(e).fontSize))),
            })"""
        )
        assert measured["visible"] == shown.width, f"the viewport is not the phone's: {measured}"
        assert measured["wide"] <= shown.width, f"it must be scrolled sideways: {measured}"
        assert measured["letters"] >= 14, measured

    async def _assert_accessible(self, shown: Appearance) -> None:
        found = await Axe().run(self.page)
        assert not found.response["violations"], f"{shown.name}: {found.generate_report()}"
