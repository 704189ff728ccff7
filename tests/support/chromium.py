"""Debian's Chromium without a screen, driven by Playwright, with a fresh profile. And the checks that every page
passes: it is readable in each colour scheme and size, accessible, and complete.
"""

from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright
from support.paths import REPO

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


class Look(NamedTuple):
    """How a person sees a page."""

    name: str
    scheme: str
    width: int
    height: int


LOOKS = (
    Look("light", "light", 1100, 760),
    Look("dark", "dark", 1100, 760),
    Look("phone-light", "light", 360, 740),
    Look("phone-dark", "dark", 360, 740),
)


@asynccontextmanager
async def running(program: Path) -> AsyncIterator[Browser]:
    """A browser. Every context of it has fresh cookies, history and storage."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def with_profile(program: Path, folder: Path) -> AsyncIterator[BrowserContext]:
    """A browser that keeps its history and everything else in this folder, as a person's does."""
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(folder, executable_path=program, args=FLAGS)
        try:
            yield context
        finally:
            await context.close()


class Tab:
    """A page of the browser, and what the browser complained about while it was open."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url.partition('?')[0]}"))

    def _hear(self, message: ConsoleMessage) -> None:
        """Keep it, unless it says only that a page has the status of an error: some of ours have."""
        own = message.location["url"] == self.page.url
        if not (own and message.text.startswith("Failed to load resource: the server responded with a status of 4")):
            self.complaints.append(f"{message.type}: {message.text}")

    async def heading(self) -> str:
        """What the page is about, as a screen reader finds it."""
        return (await self.page.get_by_role("heading", level=1).inner_text()).strip()

    async def assert_good(self, name: str) -> None:
        """Look at the page as every kind of person does, and keep screenshots as NAME-LOOK.png.

        Raises AssertionError: somebody cannot read it, or the browser complained.
        """
        page = self.page
        assert not self.complaints, self.complaints
        assert await page.title() == f"{await self.heading()} – authstate"
        assert await page.locator("html").get_attribute("lang") == "en"
        assert await page.get_by_role("main").count() == await page.get_by_role("status").count() == 1
        assert await page.locator("script").count() == 0
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        session = await page.context.new_cdp_session(page)
        for look in LOOKS:
            scheme = {"name": "prefers-color-scheme", "value": look.scheme}
            await session.send("Emulation.setEmulatedMedia", {"features": [scheme]})
            metrics = {"width": look.width, "height": look.height, "mobile": look.width < 600, "deviceScaleFactor": 1}
            await session.send("Emulation.setDeviceMetricsOverride", metrics)
            await self._assert_fits(look)
            # Not `page.screenshot`, which puts the viewport back.
            shot = await session.send("Page.captureScreenshot", {"format": "png"})
            (SCREENSHOTS / f"{name}-{look.name}.png").write_bytes(b64decode(shot["data"]))
            if look.width < 600:
                await self._assert_accessible(look)

    async def _assert_fits(self, look: Look) -> None:
        measured: dict[str, Any] = await self.page.evaluate(
            """() => ({
                visible: window.innerWidth,
                wide: document.documentElement.scrollWidth,
                letters: Math.min(...[...document.querySelectorAll('main *')].filter(e => e.innerText)
                    .map(e => parseFloat(getComputedStyle(e).fontSize))),
            })"""
        )
        assert measured["visible"] == look.width, f"the viewport is not the phone's: {measured}"
        assert measured["wide"] <= look.width, f"it must be scrolled sideways: {measured}"
        assert measured["letters"] >= 14, measured

    async def _assert_accessible(self, look: Look) -> None:
        found = await Axe().run(self.page)
        assert not found.response["violations"], f"{look.name}: {found.generate_report()}"
