"""The program in docs/service.md, exactly as it stands there, with the real codex: one person, two agents."""

import json
import os
import queue
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.codex_turns import model_config
from support.paths import REPO
from support.wire_client import clean_environment

from authstate.testing import LoopbackIssuer

PAGE = REPO / "docs" / "service.md"
MakeHome = Callable[..., Path]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the page says that it is not for Windows")


def program() -> str:
    """The page's one program."""
    [text] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return str(text)


class Service:
    """The running program. Everything that it said is in `lines`."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", program(), *arguments]
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self.lines: list[str] = []
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line.decode().rstrip("\n"))
        self._said.put(None)

    def until(self, *patterns: str) -> list[str]:
        """Wait until each pattern was found in a line of its own. Returns what they captured, in their order."""
        found: dict[str, str] = {}
        while missing := [pattern for pattern in patterns if pattern not in found]:
            try:
                line = self._said.get(timeout=60)
            except queue.Empty:
                line = None
            assert line is not None, f"it did not say {missing}, but {self.lines}"
            self.lines.append(line)
            for pattern in missing:
                if match := re.search(pattern, line):
                    found[pattern] = match[1] if match.re.groups else match[0]
                    break
        return [found[pattern] for pattern in patterns]

    def ask(self, *jobs: str) -> None:
        """Give it jobs, in one piece."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{job}\n" for job in jobs).encode())
        self.process.stdin.flush()

    def turns(self, *jobs: str) -> list[str]:
        """Jobs that must succeed, in one piece; the agents that did them, sorted."""
        self.ask(*jobs)
        return sorted(self.until(*(rf"(agent-\d): {job}: You said: {job}$" for job in jobs)))

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        self.until("ended by a signal")
        return self.process.wait(timeout=60)


class Farm:
    """Where the agents live: a home for each, and a codex that leaves its process id there."""

    def __init__(self, folder: Path, codex: Path, issuer: LoopbackIssuer) -> None:
        self.folder = folder
        self.codex = folder / "codex"
        self.homes = [folder / "agent-1", folder / "agent-2"]
        for home in self.homes:
            home.mkdir(parents=True)
            (home / "config.toml").write_text(f'chatgpt_base_url = "{issuer.backend_url}"\n{model_config(issuer)}')
        self.codex.write_text(f'#!/bin/sh\necho $$ > "$CODEX_HOME/pid"\nexec "{codex}" "$@"\n')
        self.codex.chmod(0o755)

    def child_of(self, number: int) -> int:
        """The process of an agent's child."""
        return int((self.homes[number - 1] / "pid").read_text())


@pytest.fixture
def farm(tmp_path: Path, codex: Path, issuer: LoopbackIssuer) -> Farm:
    return Farm(tmp_path / "agents", codex, issuer)


@pytest.fixture
def start(farm: Farm, issuer: LoopbackIssuer) -> Iterator[Callable[[Path], Service]]:
    """Starts the service on a home of its own."""
    running: list[Service] = []

    def begin(home: Path) -> Service:
        environment = clean_environment(home, **issuer.environment)
        running.append(Service([str(farm.folder), str(farm.codex)], environment))
        return running[-1]

    yield begin
    for service in running:
        service.process.kill()
        service.process.wait()


def secrets_in(home: Path) -> dict[str, str]:
    """The tokens that are stored."""
    tokens: dict[str, str] = json.loads((home / "auth.json").read_text())["tokens"]
    return {name: token for name, token in tokens.items() if name.endswith("_token")}


def files_with(secret: str, folder: Path) -> list[str]:
    """The files below a folder that hold it."""
    files = (path for path in folder.rglob("*") if stat.S_ISREG(path.lstat().st_mode))
    return [path.name for path in files if secret.encode() in path.read_bytes()]


def responses(issuer: LoopbackIssuer) -> int:
    """How often the model was asked."""
    requests: dict[str, int] = issuer.stats()["requests"]
    return sum(count for path, count in requests.items() if path.endswith("/responses"))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_person_two_agents_one_login(
    start: Callable[[Path], Service], farm: Farm, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home()
    service = start(home)
    code, *_ = service.until(r"type (\S+) there", "agent-1: ready", "agent-2: ready")
    issuer.approve_device(code, email="person@example.com")
    service.until("login: signed in")
    assert service.turns("one", "two") == ["agent-1", "agent-2"]
    held = [secrets_in(home)]

    issuer.expire_access()
    assert service.turns("three", "four") == ["agent-1", "agent-2"]
    stats = issuer.stats()
    assert (stats["refreshes_accepted"], stats["refreshes_refused"]) == (1, 0)
    held.append(secrets_in(home))
    assert held[0].keys() == held[1].keys()
    assert not set(held[0].values()) & set(held[1].values())

    assert [str(path) for path in farm.folder.rglob("auth.json*")] == []
    assert [files_with(token, home) for token in held[1].values()] == [["auth.json"]] * 3
    assert [found for tokens in held for token in tokens.values() for found in files_with(token, farm.folder)] == []
    children = [farm.child_of(1), farm.child_of(2)]
    assert all(map(is_running, children))
    assert service.stop() == 0
    assert not any(map(is_running, children))


def test_a_child_that_dies_is_replaced(
    start: Callable[[Path], Service], farm: Farm, make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    service = start(make_home(email="person@example.com"))
    service.until("agent-1: ready", "agent-2: ready")
    first = farm.child_of(1)
    os.kill(first, signal.SIGKILL)
    service.until(r"agent-1: the child ended: another one starts in 0\.5 seconds", "agent-1: ready")
    assert farm.child_of(1) != first
    assert service.turns("one", "two") == ["agent-1", "agent-2"]

    issuer.behave("model", mode="hang")
    asked = responses(issuer)
    service.ask("cut off")
    while responses(issuer) == asked:  # each look is a round trip to the issuer
        assert service.process.poll() is None
    for number in (1, 2):
        os.kill(farm.child_of(number), signal.SIGKILL)
    issuer.behave("model")
    service.until(r"agent-\d: cut off: not finished", "agent-1: ready", "agent-2: ready")
    assert service.turns("three", "four") == ["agent-1", "agent-2"]
    assert service.stop() == 0


def test_a_dead_refresh_token_asks_for_the_person_and_the_agents_go_on(
    start: Callable[[Path], Service], make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    service = start(make_home(email="person@example.com"))
    service.until("agent-1: ready", "agent-2: ready")
    issuer.revoke()
    issuer.expire_access()
    service.ask("one")
    [_, code, _] = service.until(
        r"^login: Your sign-in was revoked.*`authstate login`",
        r"type (\S+) there",
        r"agent-\d: one: failed: Your sign-in was revoked.*`authstate login`",
    )
    service.ask("two", "three")
    issuer.approve_device(code, email="person@example.com")
    done = service.until(r"(agent-\d): two: You said: two", r"(agent-\d): three: You said: three", "login: signed in")
    assert sorted(done[:2]) == ["agent-1", "agent-2"]
    assert issuer.stats()["refreshes_refused"] == 1
    assert service.stop() == 0


def test_a_refresh_that_was_sent_is_stored_before_the_end(
    start: Callable[[Path], Service], make_home: MakeHome, issuer: LoopbackIssuer
) -> None:
    home = make_home(email="person@example.com")
    before = secrets_in(home)
    service = start(home)
    service.until("agent-1: ready", "agent-2: ready")
    issuer.expire_access()
    issuer.hold("refresh")
    service.ask("one")
    while not issuer.stats()["requests"].get("/oauth/token"):  # each look is a round trip to the issuer
        assert service.process.poll() is None
    service.process.send_signal(signal.SIGTERM)
    issuer.release("refresh")
    service.until("ended by a signal")
    assert service.process.wait(timeout=60) == 0
    assert issuer.stats()["refreshes_accepted"] == 1
    assert not set(secrets_in(home).values()) & set(before.values())


def test_the_end_of_the_input_ends_it_when_the_jobs_are_done(
    start: Callable[[Path], Service], make_home: MakeHome
) -> None:
    service = start(make_home(email="person@example.com"))
    service.ask("one", "two", "three")
    assert service.process.stdin is not None
    service.process.stdin.close()
    service.until(*(f"You said: {job}" for job in ("one", "two", "three")))
    assert service.process.wait(timeout=60) == 0


@pytest.mark.parametrize("arguments", [[], ["folder"], ["folder", "no-such-codex"]])
def test_a_wrong_command_line_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", program(), *arguments]
    done: Any = subprocess.run(command, env=clean_environment(tmp_path), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "service.py FOLDER CODEX" in done.stderr or "no program no-such-codex" in done.stderr
