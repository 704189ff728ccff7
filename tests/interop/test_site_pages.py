"""The site in a real Chromium: light and dark, wide and narrow, with its diagrams drawn, and checked with axe.

The screenshots are in test-output/site.
"""

import functools
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser
from support.chromium import APPEARANCES, Appearance, running
from support.paths import REPO

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real_parts]
SCREENSHOTS = REPO / "test-output" / "site"
PAGES = ("", "gui/", "states/", "architecture/", "reference/events/")
WIDE = Appearance("wide-light", "light", 1440, 900)
"""Wide enough for the menu beside the page."""
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
"""The rules of axe that are a standard. Its further advice concerns the theme, which we do not write."""


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site, built with the script that draws the diagrams."""
    if shutil.which("npm") is None:
        pytest.skip("npm brings the script that draws the diagrams, and is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "docs/site/build.py", "--into", str(folder)]
    built = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=250)
    assert built.returncode == 0, built.stdout + built.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(folder / "site")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    async with running(chromium) as started:
        yield started


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.strip("/").replace("/", "-") or "start")
async def test_a_page_is_readable_and_accessible(site: str, browser: Browser, page: str) -> None:
    for appearance in (WIDE, APPEARANCES[-1]):
        await assert_good(site + page, browser, appearance, page.strip("/").replace("/", "-") or "start")


async def assert_good(address: str, browser: Browser, shown: Appearance, name: str) -> None:
    context = await browser.new_context(
        viewport={"width": shown.width, "height": shown.height},
        color_scheme="dark" if shown.scheme == "dark" else "light",
    )
    tab = await context.new_page()
    complaints: list[str] = []
    tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    tab.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    await tab.goto(address)
    for diagram in await tab.locator(".mermaid").all():
        await diagram.wait_for()  # it is drawn when it is visible
    assert await tab.evaluate("document.documentElement.scrollWidth") <= shown.width, "it scrolls sideways"
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await tab.screenshot(path=SCREENSHOTS / f"{name}-{shown.name}.png")
    found = await Axe().run(tab, options={"runOnly": WCAG})
    assert not found.response["violations"], found.generate_report()
    assert complaints == []
    await context.close()
