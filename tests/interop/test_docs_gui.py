"""The windows in docs/gui.md, as they stand there: without a toolkit, with Tk on a screen in memory, and with Qt."""

import os
import queue
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.paths import REPO
from support.real_parts import RealParts
from support.simulated_browser import agree
from support.wire_client import clean_environment

from authstate import Environment, Issuer, PermanentRefreshError, SyncAuthEngine, load_config, open_engine
from authstate.testing import LoopbackIssuer

PAGE = "gui.md"
ACCOUNT, WINDOW, QT = re.findall(r"^```python\n(.*?)^```$", (REPO / "docs" / PAGE).read_text("utf-8"), re.M | re.S)
PERSON = "person@example.com"
MakeHome = Callable[..., Path]

DRIVER = """
import sys
import tkinter as tk
import webbrowser

import window
from account import Account
from support.simulated_browser import agree
from authstate.testing import LoopbackIssuer

issuer = LoopbackIssuer()
issuer._port = int(sys.argv[1])  # of the issuer that the test has started
opened, seen, looks = [], [], 0
webbrowser.open = opened.append
after = tk.Tk.after


def steps(shown):
    while shown.account.text != "Not signed in":
        yield
    assert shown.sign_out["state"] == "disabled"
    shown.sign_in.invoke()
    while not opened:
        yield
    assert (shown.sign_in["state"], shown.cancel["state"]) == ("disabled", "normal")
    shown.cancel.invoke()
    while not shown.account.text.startswith("Not signed in: ") or shown.sign_in["state"] == "disabled":
        yield
    shown.sign_in.invoke()
    while len(opened) < 2:
        yield
    agree(issuer, opened[1], email="person@example.com")
    while shown.account.text != "Signed in as person@example.com" or shown.account.is_signing_in:
        yield
    assert shown.label["text"] == shown.account.text
    shown.sign_out.invoke()
    while shown.account.is_signed_in:
        yield


class Driven(window.Window):
    def __init__(self, root, account):
        self.steps = None
        super().__init__(root, account)
        self.steps = steps(self)

    def look(self):
        super().look()
        if self.steps and next(self.steps, "over") == "over":
            print("over")
            self.root.destroy()


window.Window = Driven
window.main()
"""


@pytest.fixture
def account_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The page's `account.py`, so that its other programs can import it."""
    module = types.ModuleType("account")
    exec(compile(ACCOUNT, "account.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "account", module)
    return module


class Desk:
    """An account without a window: what it would show, and the addresses that it opened."""

    def __init__(self, account: Any, opened: queue.SimpleQueue[str]) -> None:
        self.account = account
        self.opened = opened
        self.news: queue.SimpleQueue[None] = queue.SimpleQueue()
        account.notify = lambda: self.news.put(None)

    def until(self, condition: Callable[[], bool]) -> None:
        """Take events until something holds."""
        self.account.take_events()
        while not condition():
            self.news.get(timeout=60)
            self.account.take_events()


@pytest.fixture
def desk(
    account_module: types.ModuleType, make_home: MakeHome, issuer: LoopbackIssuer, request: pytest.FixtureRequest
) -> Iterator[Desk]:
    login = getattr(request, "param", {})
    environment = Environment.read({**issuer.environment, "CODEX_HOME": str(make_home(**login))})
    opened: queue.SimpleQueue[str] = queue.SimpleQueue()
    with SyncAuthEngine(open_engine(load_config(environment.home), environment)) as engine, engine.background():
        yield Desk(account_module.Account(engine, Issuer.of(environment), opened.put), opened)


def test_a_person_signs_in_and_out_and_nothing_waits(desk: Desk, issuer: LoopbackIssuer) -> None:
    account = desk.account
    assert account.text == "Not signed in"
    account.sign_in()
    account.sign_in()  # a second click
    agree(issuer, desk.opened.get(timeout=60), email=PERSON)
    desk.until(lambda: account.is_signed_in and not account.is_signing_in)
    assert account.text == f"Signed in as {PERSON}"
    assert desk.opened.empty()
    account.sign_out()
    desk.until(lambda: not account.is_signed_in)
    assert account.text == "Not signed in"


def test_a_sign_in_can_be_cancelled(desk: Desk) -> None:
    account = desk.account
    account.sign_in()
    desk.opened.get(timeout=60)
    account.cancel()
    desk.until(lambda: not account.is_signing_in and account.text.startswith("Not signed in: "))
    assert "cancelled" in account.text


@pytest.mark.parametrize("desk", [{"email": PERSON}], indirect=True)
def test_a_dead_login_is_shown_and_an_error_of_a_worker_too(desk: Desk, issuer: LoopbackIssuer) -> None:
    account = desk.account
    issuer.revoke()
    with pytest.raises(PermanentRefreshError):
        account.engine.refresh()  # the token is fresh, so that nothing refreshed it before
    desk.until(lambda: not account.is_signed_in)
    assert account.text == account.engine.session.failure.message
    account.engine.close()
    account.sign_in()
    desk.until(lambda: not account.is_signing_in)
    assert "close" in account.text


def test_the_window_of_tk_is_alive_during_a_sign_in(
    tmp_path: Path, make_home: MakeHome, issuer: LoopbackIssuer, real_parts: RealParts
) -> None:
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    screen = real_parts.xvfb()
    for name, text in (("account.py", ACCOUNT), ("window.py", WINDOW), ("driver.py", DRIVER)):
        (tmp_path / name).write_text(text)
    paths = os.pathsep.join([str(tmp_path), str(REPO / "tests")])
    environment = clean_environment(make_home(), **issuer.environment, PYTHONPATH=paths)
    shown, told = os.pipe()
    command = [str(screen), "-displayfd", str(told), "-nolisten", "tcp", "-screen", "0", "640x480x24"]
    with subprocess.Popen(command, pass_fds=[told], stderr=subprocess.DEVNULL) as server:
        os.close(told)
        with os.fdopen(shown) as pipe:
            environment["DISPLAY"] = f":{pipe.readline().strip()}"
        port = issuer.url.rpartition(":")[2]
        driver = [sys.executable, str(tmp_path / "driver.py"), port]
        try:
            ran = subprocess.run(driver, env=environment, capture_output=True, text=True, timeout=120)
        finally:
            server.terminate()
    assert (ran.returncode, ran.stdout) == (0, "over\n"), ran.stderr


def stand_in_for_qt() -> dict[str, types.ModuleType]:
    """As much of PySide6 as the page uses: signals that are delivered at once."""

    class Signal:
        def __init__(self) -> None:
            self.receivers: list[Callable[[], object]] = []

        def __set_name__(self, owner: type, name: str) -> None:
            self.name = f"_{name}"

        def __get__(self, instance: object, owner: type) -> "Signal":
            vars(instance).setdefault(self.name, Signal())
            found: Signal = vars(instance)[self.name]
            return found

        def connect(self, receiver: Callable[[], object], how: object = None) -> None:
            self.receivers.append(receiver)

        def emit(self) -> None:
            for receiver in self.receivers:
                receiver()

    core = types.ModuleType("PySide6.QtCore")
    kinds = types.SimpleNamespace(ConnectionType=types.SimpleNamespace(QueuedConnection=2))
    vars(core).update(QObject=type("QObject", (), {}), Signal=Signal, Qt=kinds)
    return {"PySide6": types.ModuleType("PySide6"), "PySide6.QtCore": core}


@pytest.mark.parametrize("toolkit", ["PySide6", "stand-in"])
def test_a_signal_of_qt_takes_the_events(
    desk: Desk, issuer: LoopbackIssuer, toolkit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if toolkit == "PySide6":
        core = pytest.importorskip("PySide6.QtCore", reason="PySide6 is not installed: the stand-in takes its place")
        loop = core.QCoreApplication.instance() or core.QCoreApplication([])
    else:
        for name, module in stand_in_for_qt().items():
            monkeypatch.setitem(sys.modules, name, module)
    names: dict[str, Any] = {}
    exec(compile(QT, PAGE, "exec"), names)
    signals, texts = names["AccountSignals"](desk.account), queue.SimpleQueue[str]()
    signals.changed.connect(lambda: texts.put(desk.account.text))
    desk.account.sign_in()
    agree(issuer, desk.opened.get(timeout=60), email=PERSON)
    text = ""
    while text != f"Signed in as {PERSON}":
        if toolkit == "PySide6":
            while texts.empty():
                loop.processEvents(core.QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
        text = texts.get(timeout=60)
