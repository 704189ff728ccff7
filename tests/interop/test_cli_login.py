"""`authstate login` as a person meets it: on a terminal, through a pipe, with an issuer on loopback."""

import fcntl
import json
import os
import pty
import re
import resource
import selectors
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.simulated_browser import agree, authorization_request, decline, get
from support.wire_client import AUTHSTATE, clean_environment

from authstate.testing import LoopbackIssuer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
MakeHome = Callable[..., Path]
_USER_CODE = re.compile(r"ABCD-\d{4}")
_URL = re.compile(r"http://127\.0\.0\.1:\d+/oauth/authorize\S+(?=\s)")
_ELSEWHERE = ("SSH_", "DISPLAY", "WAYLAND_", "CI", "BROWSER", "VSCODE_", "COLUMNS")


class Shown:
    """A command that runs, and what it has shown so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: int) -> None:
        self.process = process
        self.output = output
        self.text = ""

    def until(self, pattern: "re.Pattern[str] | str", timeout: float = 60.0) -> "re.Match[str]":
        """Read until the text has this."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            while (found := re.search(pattern, self.text)) is None:
                assert selector.select(timeout), f"no {pattern} in {self.text!r}"
                data = self._read()
                assert data, f"no {pattern} in {self.text!r}"
                self.text += data.decode()
        return found

    def end(self) -> int:
        """Read to the end; the exit status."""
        while data := self._read():
            self.text += data.decode()
        return self.process.wait(timeout=60)

    def _read(self) -> bytes:
        try:
            return os.read(self.output, 65536)
        except OSError:  # a pseudo-terminal whose other end is closed
            return b""


class Person:
    """Somebody at a command line, with a home and an issuer."""

    def __init__(self, home: Path, issuer: LoopbackIssuer) -> None:
        self.home = home
        environment = clean_environment(home, **issuer.environment, TERM="xterm")
        self.environment = {name: value for name, value in environment.items() if not name.startswith(_ELSEWHERE)}
        self.running: list[subprocess.Popen[bytes]] = []
        self.descriptors: list[int] = []

    def through_a_pipe(self, *words: str, preexec_fn: Callable[[], None] | None = None, **more: str) -> Shown:
        """Start a command whose output, both of it, goes into a pipe."""
        ours, theirs = os.pipe()
        return self._start(words, more, ours, theirs, subprocess.DEVNULL, preexec_fn=preexec_fn)

    def at_a_terminal(self, *words: str, **more: str) -> Shown:
        """Start a command on a terminal of its own; `Shown.output` is the person's side of it."""
        ours, theirs = pty.openpty()
        return self._start(words, more, ours, theirs, theirs, preexec_fn=take_the_terminal)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        command = [*AUTHSTATE, *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)

    def _start(
        self,
        words: tuple[str, ...],
        more: dict[str, str],
        ours: int,
        theirs: int,
        stdin: int,
        preexec_fn: Callable[[], None] | None = None,
    ) -> Shown:
        process = subprocess.Popen(
            [*AUTHSTATE, *words],
            env=self.environment | more,
            stdin=stdin,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=preexec_fn,
        )
        os.close(theirs)
        self.running.append(process)
        self.descriptors.append(ours)
        return Shown(process, ours)

    def leave(self) -> None:
        """End what runs still."""
        for process in self.running:
            process.kill()
            process.wait()
        for descriptor in self.descriptors:
            os.close(descriptor)


def take_the_terminal() -> None:
    """Make standard input the terminal that Ctrl-C is typed at."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def person(make_home: MakeHome, issuer: LoopbackIssuer) -> Iterator[Person]:
    somebody = Person(make_home(), issuer)
    yield somebody
    somebody.leave()


def facts(text: str) -> dict[str, str]:
    """The lines `  name   value` of a command, without how long the token is good for in words."""
    found = dict(re.findall(r"^  (email|plan|workspace|store|access token) +(.*?)\r?$", text, re.M))
    if "access token" in found:
        found["access token"] = found["access token"].partition("(")[2]
    return found


def last_line(text: str) -> str:
    """What a terminal shows of the last line, where a carriage return lets the next letters write over the old ones."""
    shown = ""
    for part in text.removesuffix("\r\n").rpartition("\n")[2].split("\r"):
        shown = part + shown[len(part) :]
    return shown.rstrip()


def test_a_device_login_through_a_pipe(person: Person, issuer: LoopbackIssuer) -> None:
    shown = person.through_a_pipe("login", "--device")
    code = shown.until(_USER_CODE).group()
    issuer.approve_device(code, email="who@example.com", plan="pro", account_id="org-7")
    assert shown.end() == 0
    assert "Never give this code to anybody" in shown.text
    assert f"{issuer.url}/codex/device" in shown.text
    assert "for 15 minutes at most" in shown.text
    assert shown.text.replace("\n", "").isprintable(), "control characters in a pipe"
    told = facts(shown.text)
    assert (told["email"], told["plan"], told["workspace"]) == ("who@example.com", "pro", "org-7")
    assert str(person.home / "auth.json") in told["store"]
    status = person.run("status")
    assert (status.returncode, facts(status.stdout)) == (0, told)
    assert told["access token"]
    assert person.run("logout").returncode == 0
    assert issuer.stats()["revocations"] == 1
    assert not (person.home / "auth.json").exists()


def test_a_device_login_at_a_terminal(person: Person, issuer: LoopbackIssuer) -> None:
    shown = person.at_a_terminal("login", "--device")
    code = shown.until(_USER_CODE).group()
    first = shown.until(r"\rWaiting for you to enter the code, (\d+:\d\d) left\. Ctrl-C cancels\.")
    shown.until(r"left\. Ctrl-C cancels\. *\rWaiting")
    assert re.fullmatch(r"15:00|14:[0-5]\d", first.group(1)), "a busy machine may lose some seconds"
    issuer.approve_device(code, email="who@example.com")
    assert shown.end() == 0
    assert "\x1b" not in shown.text
    assert re.search(r"\r *\rSigned in with ChatGPT\.\r\n", shown.text), "the line of the countdown is still there"
    assert facts(shown.text)["email"] == "who@example.com"


def test_ctrl_c_at_the_terminal_ends_it_cleanly(person: Person) -> None:
    shown = person.at_a_terminal("login", "--device")
    shown.until(r"\rWaiting")
    os.write(shown.output, b"\x03")
    assert shown.end() == 130
    assert "^C" not in shown.text and "Traceback" not in shown.text
    assert last_line(shown.text) == "authstate: the sign-in was cancelled; nothing was changed", shown.text
    assert not (person.home / "auth.json").exists()


def test_ctrl_c_while_the_issuer_is_asked_for_a_code(person: Person, issuer: LoopbackIssuer) -> None:
    issuer.behave("device", mode="hang")
    shown = person.at_a_terminal("login", "--device")
    shown.until(r"\rAsking 127\.0\.0\.1:\d+ for a code\. Ctrl-C cancels\.")
    os.write(shown.output, b"\x03")
    assert shown.end() == 130
    assert last_line(shown.text) == "authstate: the sign-in was cancelled; nothing was changed", shown.text


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly(person: Person, number: signal.Signals, status: int) -> None:
    shown = person.through_a_pipe("login", "--device")
    shown.until("Waiting")
    shown.process.send_signal(number)
    assert shown.end() == status
    assert "the sign-in was cancelled" in shown.text and "Traceback" not in shown.text


def test_a_browser_that_is_opened(person: Person, issuer: LoopbackIssuer, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    os.mkfifo(opened)
    script = tmp_path / "browser.sh"
    script.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    script.chmod(0o700)
    shown = person.at_a_terminal("login", BROWSER=f"{script} %s", VSCODE_IPC_HOOK_CLI="socket", COLUMNS="100")
    auth_url = opened.read_text()
    shown.until(r"Waiting for your browser, \d+:\d\d left")
    assert auth_url in shown.text
    assert "If your browser does not open by itself" in shown.text
    agree(issuer, auth_url, email="who@example.com", plan="pro", account_id="org-7")
    assert shown.end() == 0
    told = facts(shown.text)
    assert (told["email"], told["plan"], told["workspace"]) == ("who@example.com", "pro", "org-7")


def test_a_browser_that_does_not_open_is_told(person: Person, issuer: LoopbackIssuer) -> None:
    shown = person.through_a_pipe("login", BROWSER="false %s", VSCODE_IPC_HOOK_CLI="socket", PATH="/usr/bin:/bin")
    auth_url = shown.until(_URL).group()
    shown.until("no browser opened: open the URL yourself")
    agree(issuer, auth_url)
    assert shown.end() == 0


def test_only_the_url(person: Person, issuer: LoopbackIssuer) -> None:
    shown = person.through_a_pipe("login", "--no-browser")
    auth_url = shown.until(_URL).group()
    page = agree(issuer, auth_url, email="who@example.com")
    assert shown.end() == 0
    assert shown.text.replace("\n", "").isprintable()
    assert "for 10 minutes at most" in shown.text
    assert facts(shown.text) == facts(person.run("status").stdout)
    assert "signed in" in page.lower()


def test_declined_and_cancelled_in_the_browser_are_told_apart(person: Person, issuer: LoopbackIssuer) -> None:
    declined = person.through_a_pipe("login", "--no-browser")
    decline(issuer, declined.until(_URL).group())
    assert declined.end() == 5
    assert "declined" in declined.text.splitlines()[-1]
    cancelled = person.through_a_pipe("login", "--no-browser")
    asked = authorization_request(issuer, cancelled.until(_URL).group())
    get(asked["redirect_uri"].replace("/auth/callback", "/cancel"))
    assert cancelled.end() == 7
    assert "cancelled" in cancelled.text.splitlines()[-1]
    assert not (person.home / "auth.json").exists()


@pytest.mark.parametrize(
    ("login", "who"),
    [
        ({"email": "old@example.com"}, "as old@example.com (workspace org-1)"),
        ({"auth": {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-old"}}, "with an API key"),
    ],
)
def test_a_login_that_fails_says_who_is_signed_in_still(
    make_home: MakeHome, issuer: LoopbackIssuer, login: dict[str, Any], who: str
) -> None:
    person = Person(make_home(**login), issuer)
    before = (person.home / "auth.json").read_bytes()
    try:
        shown = person.through_a_pipe("login", "--no-browser")
        decline(issuer, shown.until(_URL).group())
        assert shown.end() == 5
    finally:
        person.leave()
    assert shown.text.startswith(f"You are signed in {who}. A new sign-in replaces this.\n")
    assert "declined" in shown.text.splitlines()[-2]
    assert shown.text.splitlines()[-1] == f"authstate: you are still signed in {who}"
    assert (person.home / "auth.json").read_bytes() == before


def test_ctrl_c_while_the_browser_is_open(person: Person) -> None:
    shown = person.at_a_terminal("login", "--no-browser")
    shown.until(r"\rWaiting for your browser")
    os.write(shown.output, b"\x03")
    assert shown.end() == 130
    assert last_line(shown.text) == "authstate: the sign-in was cancelled; nothing was changed", shown.text


def test_an_address_that_is_pasted_at_the_terminal(person: Person, issuer: LoopbackIssuer) -> None:
    """The browser is on another machine. What is wrong can be pasted again, and nothing of it is shown."""
    shown = person.at_a_terminal("login", "--no-browser", COLUMNS="200")
    auth_url = shown.until(_URL).group()
    shown.until(r"paste it here and press Enter[\s\S]*Waiting for your browser, \d+:\d\d left")
    asked = authorization_request(issuer, auth_url)
    issuer.register_code("ac_canary_1", code_challenge=asked["code_challenge"], email="far@example.com")
    address = f"{asked['redirect_uri']}?code=ac_canary_1&state={asked['state']}"
    for wrong, said in [
        ("http://evil.example/?code=ac_canary_2", "not the address that the browser arrives at"),
        (address.replace(asked["state"], "canary"), "belongs to another sign-in"),
        (address.replace("code=ac_canary_1", "error=access_denied"), "the sign-in was declined on the issuer's page"),
    ]:
        os.write(shown.output, f"{wrong}\n".encode())
        shown.until(f"authstate: .*{said}")
    os.write(shown.output, f" '{address}' \n".encode())
    assert shown.end() == 0
    assert facts(shown.text)["email"] == "far@example.com"
    assert "canary" not in shown.text and "evil.example" not in shown.text


def test_the_terminal_shows_again_what_is_typed(person: Person) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*AUTHSTATE, "login", "--no-browser"],
            env=person.environment,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=take_the_terminal,
        )
        person.running.append(process)
        assert process.stdout is not None
        Shown(process, process.stdout.fileno()).until("Waiting for your browser")
        wait_until(lambda: not termios.tcgetattr(theirs)[3] & termios.ECHO)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert termios.tcgetattr(theirs)[3] & termios.ECHO
        process.stdout.close()
    finally:
        os.close(ours)
        os.close(theirs)


def wait_until(holds: Callable[[], bool], timeout: float = 60.0) -> None:
    """Return once it holds. Raises AssertionError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_without_a_browser_it_takes_a_device_code_and_says_so(person: Person, issuer: LoopbackIssuer) -> None:
    shown = person.through_a_pipe("login", SSH_CONNECTION="192.0.2.1 5000 192.0.2.2 22", DISPLAY=":0")
    issuer.approve_device(shown.until(_USER_CODE).group())
    assert shown.end() == 0
    assert shown.text.startswith("No browser can be opened here (this is an ssh session): signing in with a device")
    assert "--no-browser" in shown.text


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [("access_denied", 5, "declined"), ("expired_token", 6, "has expired"), ("invalid_client", 5, "invalid_client")],
)
def test_the_exit_status_tells_refusal_from_expiry(
    person: Person, issuer: LoopbackIssuer, code: str, status: int, said: str
) -> None:
    shown = person.through_a_pipe("login", "--device")
    shown.until("Waiting")
    issuer.behave("device", mode="status", status=400, code=code)
    assert shown.end() == status
    assert said in shown.text.splitlines()[-1]


def test_a_forbidden_workspace_is_a_refusal(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    person = Person(make_home(config='forced_chatgpt_workspace_id = "org-2"\n'), issuer)
    try:
        shown = person.through_a_pipe("login", "--device")
        issuer.approve_device(shown.until(_USER_CODE).group(), account_id="org-1")
        assert shown.end() == 5
        assert "org-2" in shown.text.splitlines()[-1]
    finally:
        person.leave()


@pytest.mark.parametrize(
    ("status_code", "exit_status", "said"), [(404, 5, "not enabled"), (503, 4, "503"), (403, 5, "refused")]
)
def test_no_code_is_one_line(
    person: Person, issuer: LoopbackIssuer, status_code: int, exit_status: int, said: str
) -> None:
    issuer.behave("device", mode="status", status=status_code)
    ran = person.run("login", "--device")
    assert (ran.returncode, ran.stdout) == (exit_status, "")
    assert ran.stderr.count("\n") == 1 and said in ran.stderr


def test_a_network_that_comes_back(person: Person, issuer: LoopbackIssuer) -> None:
    shown = person.through_a_pipe("login", "--device")
    code = shown.until(_USER_CODE).group()
    issuer.behave("device", mode="reset", times=2)
    shown.until(r"Waiting for you to enter the code \(127\.0\.0\.1")
    issuer.behave("device")
    issuer.approve_device(code)
    assert shown.end() == 0


def test_a_forced_method_forbids_it(person: Person) -> None:
    ran = person.run("-c", 'forced_login_method="api"', "login", "--device")
    assert (ran.returncode, ran.stderr.count("\n")) == (5, 1)
    assert "forced_login_method" in ran.stderr


def test_it_says_whose_sign_in_it_replaces(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    person = Person(make_home(email="old@example.com"), issuer)
    before = json.loads((person.home / "auth.json").read_text())["tokens"]["refresh_token"]
    try:
        shown = person.through_a_pipe("login", "--device")
        issuer.approve_device(shown.until(_USER_CODE).group(), email="new@example.com")
        assert shown.end() == 0
    finally:
        person.leave()
    assert "You are signed in as old@example.com" in shown.text
    assert facts(shown.text)["email"] == "new@example.com"
    assert json.loads((person.home / "auth.json").read_text())["tokens"]["refresh_token"] != before
    assert issuer.stats()["revocations"] == 1


def test_a_store_that_cannot_be_written_keeps_the_old_login(make_home: MakeHome, issuer: LoopbackIssuer) -> None:
    person = Person(make_home(email="old@example.com"), issuer)
    before = (person.home / "auth.json").read_bytes()
    try:
        shown = person.through_a_pipe("login", "--no-browser", preexec_fn=let_no_file_grow)
        page = agree(issuer, shown.until(_URL).group(), email="new@example.com")
        assert shown.end() == 5
    finally:
        person.leave()
    said, still = shown.text.splitlines()[-2:]
    assert str(person.home / "auth.json") in said and "too large" in said, said
    assert still == "authstate: you are still signed in as old@example.com (workspace org-1)"
    assert "Sign-in failed" in page and "too large" in page and "that sign-in still works" in page
    assert (person.home / "auth.json").read_bytes() == before
    assert facts(person.run("status").stdout)["email"] == "old@example.com"
    assert issuer.stats()["revocations"] == 0


def let_no_file_grow() -> None:
    """As on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_ways_to_sign_in_exclude_each_other(person: Person) -> None:
    ran = person.run("login", "--device", "--no-browser")
    assert (ran.returncode, "not allowed with" in ran.stderr) == (2, True)
