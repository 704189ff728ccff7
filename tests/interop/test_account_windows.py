"""Windows of real codex behind `authstate wrap`, while `authstate account use` switches: which token goes where."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from interop.test_wrap import Agent
from interop.test_wrap_windows import until_asked
from support.codex_binaries import OLD
from support.codex_turns import model_config
from support.real_parts import RealParts
from support.vaults import add_account
from support.wire_client import AUTHSTATE, Message, WireClient, clean_environment

from authstate.testing import LoopbackIssuer

MakeHome = Callable[..., Path]
HOME, WORK = "person@example.com", "worker@example.com"
SAME_WORKSPACE = {"account_id": "org-1", "user_id": "user-2"}


class Desk:
    """A person with two accounts and any number of windows."""

    def __init__(self, codex: Path, home: Path, issuer: LoopbackIssuer) -> None:
        self.home, self.issuer, self.codex = home, issuer, codex
        self.windows: list[Agent] = []

    def run(self, *words: str) -> str:
        environment = clean_environment(self.home, **self.issuer.environment)
        ran = subprocess.run([*AUTHSTATE, *words], env=environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def open(self, *options: str) -> Agent:
        window = Agent([*AUTHSTATE, "wrap", *options, "--", str(self.codex)], self.home, self.issuer)
        self.windows.append(window)
        return window

    def add_work(self, **login: str) -> None:
        """Sign in to the account `work`, as `account add` does."""
        person = {"email": WORK, "account_id": "org-2", "user_id": "user-2", **login}
        asyncio.run(add_account(self.home, self.issuer, "work", **person))

    def use(self, name: str) -> None:
        """Select an account."""
        self.run("account", "use", name)

    def served(self) -> list[str]:
        """Whose token came with each request that the model answered."""
        found: list[str] = self.issuer.stats()["model_served"]
        return found


@pytest.fixture(params=[OLD, "newest"])
def desk(
    request: pytest.FixtureRequest, real_parts: RealParts, make_home: MakeHome, issuer: LoopbackIssuer
) -> Iterator[Desk]:
    home = make_home(email=HOME, account_id="org-1", user_id="user-1", config=model_config(issuer))
    opened = Desk(real_parts.codex(request.param), home, issuer)
    yield opened
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda window: window.__exit__(), opened.windows))


def email_of(window: Agent) -> str | None:
    account: Message | None = window.result("account/read")["account"]
    return None if account is None else account["email"]


def told(window: Agent, begun: int) -> list[Message]:
    """The changes of the account that the front-end was told of since then."""
    return [one for one in window.received[begun:] if one.get("method") == "account/updated"]


def follow(window: Agent) -> None:
    """Wait until the front-end is told of the switch, which takes about a second."""
    assert window.until("account/updated")["authMode"] == "chatgpt"


def test_windows_follow_and_a_pinned_one_stays(desk: Desk, issuer: LoopbackIssuer) -> None:
    desk.add_work()
    follows, pinned = desk.open(), desk.open("--account", "home")
    assert follows.turn("one")["status"] == pinned.turn("one")["status"] == "completed"
    desk.use("work")
    follow(follows)
    assert email_of(follows) == WORK and email_of(pinned) == HOME
    assert follows.turn("two")["status"] == pinned.turn("two")["status"] == "completed"
    desk.use("home")
    follow(follows)
    assert follows.turn("three")["status"] == "completed"
    assert desk.served() == [HOME, HOME, WORK, HOME, HOME]
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"], stats["revocations"]) == (0, 0, 0)


def test_a_codex_whose_only_setting_is_its_path_is_pinned_by_the_variable(desk: Desk, issuer: LoopbackIssuer) -> None:
    desk.add_work()
    environment = {"AUTHSTATE_CODEX": str(desk.codex), "AUTHSTATE_ACCOUNT": "work"}
    program = str(Path(sys.executable).with_name("authstate-codex"))
    with WireClient([program], clean_environment(desk.home, **issuer.environment, **environment)) as window:
        window.initialize()
        assert window.result("account/read")["account"]["email"] == WORK
        desk.use("home")
        window.drain(2.5)
        assert window.result("account/read")["account"]["email"] == WORK


def test_a_front_end_of_app_server_is_told(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    home = make_home(email=HOME, account_id="org-1", user_id="user-1")
    desk = Desk(Path("none"), home, issuer)
    desk.add_work()
    with (
        WireClient(AUTHSTATE, clean_environment(home, **issuer.environment)) as follows,
        WireClient([*AUTHSTATE, "--account=home"], clean_environment(home, **issuer.environment)) as pinned,
    ):
        for window in (follows, pinned):
            window.initialize()
            assert window.result("account/read")["account"]["email"] == HOME
        login = follows.result("account/login/start", {"type": "chatgptDeviceCode"})
        desk.use("work")
        ended = follows.until("account/login/completed")
        assert ended["loginId"] == login["loginId"] and ended["success"] is False
        assert "another account was selected" in ended["error"]
        assert follows.until("account/updated")["authMode"] == "chatgpt"
        assert follows.result("account/read")["account"]["email"] == WORK
        assert pinned.result("account/read")["account"]["email"] == HOME


def test_a_turn_that_runs_keeps_its_account_and_the_window_follows_when_it_ends(
    desk: Desk, issuer: LoopbackIssuer
) -> None:
    """Its token expires amid it, too: the 401 is answered with a token of its own account."""
    desk.add_work()
    window = desk.open()
    issuer.hold("model", times=1)
    begun = window.begin("use a tool, then expire")
    until_asked(issuer, window, 1)
    desk.use("work")
    other = desk.open()
    assert email_of(other) == WORK
    window.drain(2.5)
    assert not told(window, begun)
    issuer.release("model")
    assert window.completed(begun)["status"] == "completed"
    window.wait_until(lambda: bool(told(window, begun)))
    assert email_of(window) == WORK
    assert set(desk.served()) == {HOME}
    assert window.turn("hello")["status"] == "completed"
    assert desk.served()[-1] == WORK
    assert issuer.stats()["refreshes_refused"] == 0


def test_two_people_of_one_workspace_are_two_accounts(desk: Desk, issuer: LoopbackIssuer) -> None:
    desk.add_work(**SAME_WORKSPACE)
    window = desk.open()
    assert window.turn("one")["status"] == "completed"
    desk.use("work")
    follow(window)
    issuer.expire_access()
    assert window.turn("two")["status"] == "completed"
    assert desk.served() == [HOME, WORK]
    assert issuer.stats()["refreshes_accepted"] == 1
    tokens = json.loads((desk.home / "auth.json").read_text())["tokens"]
    assert tokens["account_id"] == "org-1"


def test_the_selected_account_is_removed(desk: Desk) -> None:
    desk.add_work()
    desk.use("work")
    follows, pinned = desk.open(), desk.open("--account=work")
    assert email_of(follows) == email_of(pinned) == WORK
    desk.run("account", "remove", "work")
    assert follows.until("account/updated")["authMode"] == "chatgpt"
    assert pinned.until("account/updated")["authMode"] is None
    assert email_of(follows) == HOME and email_of(pinned) is None
    assert follows.turn("hello")["status"] == "completed"
    assert not list((desk.home / "authstate" / "accounts").iterdir())


def test_another_kind_of_login_in_the_home_is_not_that_of_the_account_in_use(desk: Desk) -> None:
    """codex would use it by itself; here another account is used."""
    desk.add_work()
    (desk.home / "auth.json").write_text('{"auth_mode": "bedrockApiKey", "bedrock_api_key": {"api_key": "x"}}')
    window = desk.open("--account", "work")
    assert email_of(window) == WORK
    assert window.turn("hello")["status"] == "completed"
    assert desk.served() == [WORK]
