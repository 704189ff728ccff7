"""A whole sign-in with the real program and a real Chromium: `authstate login`, clicked through, and what is left."""

import json
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.chromium import Tab, with_profile
from support.wire_client import AUTHSTATE, clean_environment

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]


class Login:
    """`authstate login --no-browser`, which has shown its URL."""

    def __init__(self, home: Path, issuer: LoopbackIssuer) -> None:
        self.process = subprocess.Popen(
            [*AUTHSTATE, "login", "--no-browser"],
            env=clean_environment(home, **issuer.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        found = None
        while found is None:
            line = self.process.stdout.readline()
            assert line, "it ended without a URL"
            found = re.search(r"http\S+/oauth/authorize\S+", line)
        self.url = found.group()

    def end(self) -> tuple[int, str]:
        """Its exit status, and what it showed after the URL."""
        shown, _ = self.process.communicate(timeout=60)
        return self.process.returncode, shown


@pytest.fixture
def home(make_home: MakeHome) -> Path:
    return make_home()


@pytest.fixture
def login(home: Path, issuer: LoopbackIssuer) -> Iterator[Login]:
    started = Login(home, issuer)
    yield started
    started.process.kill()
    started.process.wait()


async def test_a_person_agrees(
    login: Login, home: Path, issuer: LoopbackIssuer, chromium: Path, tmp_path: Path
) -> None:
    issuer.set_person(email="who@example.com", plan="team", account_id="org-7")
    profile = tmp_path / "profile"
    async with with_profile(chromium, profile) as context:
        tab = Tab(await context.new_page())
        await tab.page.goto(login.url)
        await tab.page.get_by_role("button", name="Agree").click()
        await tab.page.get_by_role("heading", name="You are signed in").wait_for()
        status, shown = login.end()
        assert (status, tab.complaints) == (0, [])
        history = await (await context.new_cdp_session(tab.page)).send("Page.getNavigationHistory")
    assert re.search(r"email +who@example\.com\n +plan +team\n +workspace +org-7\n", shown), shown
    steps = [entry["url"] for entry in history["entries"]]
    assert steps[:2] == ["about:blank", login.url]
    assert re.fullmatch(r"http://localhost:\d+/done", steps[2]) and len(steps) == 3
    with closing(sqlite3.connect(profile / "Default" / "History")) as database:
        visited = [url for (url,) in database.execute("select url from urls order by id")]
    place = steps[2].removesuffix("/done")
    assert [url.partition("?")[0] for url in visited] == [
        f"{issuer.url}/oauth/authorize",
        f"{place}/auth/callback",
        steps[2],
    ]
    tokens = json.loads((home / "auth.json").read_text())["tokens"]
    for name in ("id_token", "access_token", "refresh_token"):
        secret = tokens[name].encode()
        found = [path for path in profile.rglob("*") if path.is_file() and secret in path.read_bytes()]
        assert not found, f"the browser keeps the {name} in {found}"


async def test_a_person_declines(login: Login, home: Path, chromium: Path, tmp_path: Path) -> None:
    async with with_profile(chromium, tmp_path / "profile") as context:
        tab = Tab(await context.new_page())
        await tab.page.goto(login.url)
        await tab.page.get_by_role("button", name="Decline").click()
        await tab.page.get_by_role("heading", name="Sign-in failed").wait_for()
        status, shown = login.end()
    assert (status, shown.splitlines()[-1]) == (
        5,
        "authstate: the sign-in was declined on the issuer's page, "
        'which says "The person declined": start it again to sign in',
    )
    assert not (home / "auth.json").exists()
