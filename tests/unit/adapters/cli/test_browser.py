"""Where `authstate login` opens a browser, and how it shows that it waits."""

import asyncio
import io
import os
import sys
import webbrowser
from pathlib import Path

import pytest

from authstate.adapters.cli.browser import BrowserOpening, why_browser_variable_unusable, why_no_browser
from authstate.adapters.cli.exit_status import ExitStatus, print_error
from authstate.adapters.cli.login import _wait
from authstate.adapters.cli.progress import Countdown, fitted
from authstate.engine.engine import AuthEngine
from authstate.engine.machines.login_attempt import LoginAttempt, LoginFlow
from authstate.testing import FakeAuthority, ManualClock, MemoryStore, make_tokens

DESKTOP = {"DISPLAY": ":0"}


class Found:
    """A browser that the standard library knows."""

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture(autouse=True)
def firefox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "get", lambda: Found("firefox"))


def why(environ: dict[str, str], platform: str = "linux", marks: tuple[str, ...] = ()) -> str | None:
    return why_no_browser(environ, platform=platform, marks=marks)


@pytest.mark.parametrize(
    ("environ", "platform", "reason"),
    [
        (DESKTOP, "linux", None),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", None),
        ({"DISPLAY": ""}, "linux", "this machine has no display"),
        ({}, "freebsd14", "this machine has no display"),
        ({}, "darwin", None),
        ({}, "win32", None),
        (DESKTOP | {"SSH_CONNECTION": "::1 1 ::1 22"}, "linux", "this is an ssh session"),
        ({"SSH_TTY": "/dev/pts/1"}, "darwin", "this is an ssh session"),
        (DESKTOP | {"CI": "true"}, "linux", "this is a CI job"),
        (DESKTOP | {"CI": "false"}, "linux", None),
        ({"SSH_TTY": "x", "BROWSER": "helper.sh", "VSCODE_IPC_HOOK_CLI": "socket"}, "linux", None),
        ({"BROWSER": sys.executable}, "linux", None),
        ({"BROWSER": f"/nowhere/browser{os.pathsep}'{sys.executable}' -m http %s &"}, "linux", None),
        ({"BROWSER": " "}, "linux", "this machine has no display"),
        (
            {"BROWSER": "/nowhere/\x1bbrowser --new %s"},
            "linux",
            "this machine has no display, and BROWSER names no installed program: /nowhere/\ufffdbrowser --new %s",
        ),
        (
            {"BROWSER": "'unbalanced"},
            "linux",
            "this machine has no display, and BROWSER names no installed program: 'unbalanced",
        ),
        (DESKTOP | {"BROWSER": "/nowhere"}, "linux", None),
        ({"BROWSER": sys.executable, "SSH_TTY": "/dev/pts/1"}, "linux", "this is an ssh session"),
    ],
)
def test_where_a_browser_can_be_opened(environ: dict[str, str], platform: str, reason: str | None) -> None:
    assert why(environ, platform) == reason


def test_a_container_is_known_by_its_mark(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    assert why(DESKTOP, marks=(str(tmp_path / ".dockerenv"),)) == "this is a container"
    assert why(DESKTOP, marks=(str(tmp_path / "missing"),)) is None


@pytest.mark.parametrize("name", ["w3m", "/usr/bin/lynx", "www-browser"])
def test_a_browser_in_the_terminal_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "get", lambda: Found(name))
    assert why(DESKTOP) == "no browser is installed"


def test_no_browser_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Found:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    assert why(DESKTOP) == "no browser is installed"


@pytest.mark.parametrize(("result", "failed"), [(True, False), (False, True), (webbrowser.Error(), True)])
def test_opening_it(result: bool | Exception, failed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def open_it(url: str) -> bool:
        opened.append(url)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(webbrowser, "open", open_it)
    opening = BrowserOpening("https://issuer.example/", {})
    opening.start()
    opening.join(10)
    assert (opened, opening.failed) == (["https://issuer.example/"], failed)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A browser in a folder whose name has a space: it writes down what it was started with."""
    script = tmp_path / "Program Files" / "browser"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nprintf "%s|" "$@" > "{tmp_path}/opened"\n')
    script.chmod(0o700)
    return script


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("{program}", "URL|"),
        ("'{program}' --new-window", "--new-window|URL|"),
        ("'{program}' --url=%s --quiet &", "--url=URL|--quiet|"),
        ("/nowhere/at/all:false:w3m:{program}", "URL|"),
    ],
)
def test_the_browser_that_the_person_named_is_opened(
    named: str, arguments: str, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "open", None)  # what the person named is tried, and nothing else
    opening = BrowserOpening("https://issuer.example/?a=b", {"BROWSER": named.format(program=program)})
    opening.run()
    assert not opening.failed
    assert (tmp_path / "opened").read_text().replace("https://issuer.example/?a=b", "URL") == arguments


@pytest.mark.skipif(sys.platform == "win32", reason="a program of Unix")
def test_a_named_browser_that_fails_is_no_browser() -> None:
    opening = BrowserOpening("https://issuer.example/", {"BROWSER": "false"})
    opening.run()
    assert opening.failed


def test_why_a_named_browser_cannot_be_used(program: Path) -> None:
    (text_browser := program.parent / "w3m").symlink_to(program)
    assert why_browser_variable_unusable({}) is None
    assert why_browser_variable_unusable({"BROWSER": str(program)}) is None
    assert (
        why_browser_variable_unusable({"BROWSER": str(text_browser)}) == f"BROWSER names a text browser: {text_browser}"
    )
    assert str(why_browser_variable_unusable({"BROWSER": "x" * 200})).endswith("x" * 100 + "…")


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_time_left_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    countdown = Countdown(out, "Waiting")
    for left in (600.0, 599.4, 59.6):
        countdown.show(left)
    countdown.show(9, "auth.example cannot be reached, which is a long story that no line of sixty can hold")
    shown = out.getvalue().split("\r")
    assert [line.rstrip() for line in shown[1:4]] == [
        "Waiting, 10:00 left. Ctrl-C cancels.",
        "Waiting, 9:59 left. Ctrl-C cancels.",
        "Waiting, 1:00 left. Ctrl-C cancels.",
    ]
    assert len(shown[4]) == 59 and "auth.example" in shown[4]
    countdown.clear()
    assert out.getvalue().endswith("\r" + " " * 59 + "\r")
    assert out.getvalue().replace("\r", "").isprintable()


def test_words_for_a_person_are_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert fitted("never give this code to anybody, whoever asks", Terminal()).splitlines() == [
        "never give this code to",
        "anybody, whoever asks",
    ]
    assert fitted("never give this code to anybody, whoever asks", io.StringIO()).count("\n") == 0


def test_what_is_done_before_the_waiting_is_shown_on_a_terminal_only() -> None:
    out, pipe = Terminal(), io.StringIO()
    for place in (out, pipe):
        countdown = Countdown(place, "Waiting")
        countdown.prepare("Asking \x1b")
        countdown.clear()
    assert out.getvalue() == "\rAsking \ufffd\r" + " " * 10 + "\r"
    assert pipe.getvalue() == ""


def test_what_is_no_terminal_gets_whole_lines_without_control_characters() -> None:
    out = io.StringIO()
    countdown = Countdown(out, "Waiting")
    for left, trouble in ((600, None), (599, None), (500, "no network"), (400, "no network"), (300, None)):
        countdown.show(left, trouble)
    countdown.clear()
    assert out.getvalue().splitlines() == [
        "Waiting, for 10 minutes at most.",
        "Waiting (no network), for 8 minutes at most.",
        "Waiting, for 5 minutes at most.",
    ]


def test_words_from_outside_do_not_reach_the_terminal_as_orders(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_error("no: \x1b[2J\x07 gone", ExitStatus.LOGIN_REFUSED) == 5
    assert capsys.readouterr().err == "authstate: no: \ufffd[2J\ufffd gone\n"


class HeldLogin:
    """A login that is being stored: the store's lock is held by somebody else."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.engine = AuthEngine(self.store, FakeAuthority())
        self.locked = asyncio.Event()
        self.may_go = asyncio.Event()
        self.tokens = make_tokens()
        self.attempt: LoginAttempt

    async def start(self) -> None:
        await self.engine.start()
        self.holder = asyncio.create_task(self.hold())
        await self.locked.wait()
        self.attempt = await self.engine.begin_login("login-1", LoginFlow.DEVICE_CODE)
        self.attempt.authorized()
        self.completing = asyncio.create_task(self.engine.complete_login(self.attempt, self.tokens))

    async def hold(self) -> None:
        async with self.store.locked():
            self.locked.set()
            await self.may_go.wait()

    async def closed(self) -> None:
        await asyncio.wait([self.completing])


async def test_ctrl_c_while_the_credentials_are_being_stored_reports_what_happened() -> None:
    login = HeldLogin()
    await login.start()
    waiting = asyncio.create_task(_wait(login.engine, login, Countdown(io.StringIO(), "Waiting")))
    await ManualClock().settle()
    assert login.attempt.is_storing
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    login.may_go.set()
    assert (await waiting).state == "succeeded"
    assert login.store.credentials is login.tokens


async def test_ctrl_c_before_that_cancels() -> None:
    login = HeldLogin()
    await login.start()
    login.completing.cancel()
    waiting = asyncio.create_task(_wait(login.engine, login, Countdown(io.StringIO(), "Waiting")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    login.may_go.set()
    assert login.attempt.state == "cancelled"
    assert login.store.credentials is None


def test_the_real_environment_has_an_answer() -> None:
    reason = why_no_browser({}, platform=sys.platform)
    assert reason is None or reason.startswith(("this ", "no "))
